/* "process|GPU-aaaa|4711|512" is a process that computes on a GPU or a MIG device: pid|MiB; with "-" for MiB the driver
 * does not say how much it holds. A GPU in MIG mode tells those of its devices too. */
#include "state.h"

typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process;

API int nvmlDeviceGetUUID(void *handle, char *text, unsigned size);

API int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, process *found) {
    char rest[LINE], uuid[WORD], used[32];
    unsigned pid, most = *count;
    int code = nvmlDeviceGetUUID(handle, uuid, sizeof uuid);
    FILE *file;
    if (code) return code;
    if (!(file = state_open())) return DRIVER_NOT_LOADED;
    *count = 0;
    while (state_next(file, "process", uuid, rest, sizeof rest)) {
        if (sscanf(rest, "%u|%31s", &pid, used) != 2) continue;
        if (found && *count < most) {
            unsigned long long bytes = used[0] == '-' ? ~0ULL : strtoull(used, NULL, 10) << 20;
            found[*count] = (process){pid, bytes, ~0U, ~0U};
        }
        ++*count;
    }
    fclose(file);
    return *count > (found ? most : 0) ? INSUFFICIENT_SIZE : SUCCESS;
}
