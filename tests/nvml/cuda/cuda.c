/* A libcuda.so.1 for tests, as far as the test at boot goes. "cuda|GPU-aaaa|WHAT" in the file of `../state.h` says how a
 * GPU fails: init (cuInit says 999), full (no memory is left), wrong (memory forgets a bit), hang (it never answers).
 * Names and codes are those of NVIDIA's CUDA Driver API reference. */
#include <unistd.h>
#include "../state.h"

enum { CUDA_OUT_OF_MEMORY = 2, CUDA_UNKNOWN = 999 };

static int is_so(const char *what) {
    char rest[LINE];
    const char *uuid = getenv("CUDA_VISIBLE_DEVICES");
    return uuid && state_line("cuda", uuid, rest, sizeof rest) && !strcmp(rest, what);
}

API int cuInit(unsigned flags) { (void)flags; return is_so("init") ? CUDA_UNKNOWN : 0; }
API int cuDeviceGet(int *device, int number) { *device = number; return 0; }
API int cuCtxCreate_v2(void **context, unsigned flags, int device) {
    (void)flags; (void)device;
    *context = (void *)1;
    while (is_so("hang")) sleep(60);
    return 0;
}
API int cuMemAlloc_v2(unsigned long long *memory, size_t bytes) {
    if (is_so("full")) return CUDA_OUT_OF_MEMORY;
    *memory = (unsigned long long)(size_t)malloc(bytes);
    return 0;
}
API int cuMemsetD32_v2(unsigned long long memory, unsigned word, size_t count) {
    for (size_t i = 0; i < count; i++) ((unsigned *)(size_t)memory)[i] = word;
    return 0;
}
API int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t bytes) {
    memcpy(to, (void *)(size_t)from, bytes);
    if (is_so("wrong")) ((unsigned *)to)[7] ^= 1;
    return 0;
}
API int cuMemFree_v2(unsigned long long memory) { free((void *)(size_t)memory); return 0; }
API int cuCtxDestroy_v2(void *context) { (void)context; return 0; }
