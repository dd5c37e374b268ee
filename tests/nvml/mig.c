/* MIG: "mig|GPU-aaaa|MIG-bbbb|1g.5gb|4864|13" is one device of a GPU in MIG mode: uuid|profile|memory MiB|used MiB.
 * "migmode|GPU-aaaa" is a GPU in MIG mode that has none.
 * Source: NVIDIA's NVML API reference, "Multi Instance GPU Management". */
#include "state.h"

typedef struct { char uuid[WORD], profile[WORD]; unsigned long long memory, used; } mig;

int is_mig(void *handle) { return (long)handle > 0xff; }
void *mig_handle(unsigned index, unsigned number) { return (void *)((long)(number + 1) << 8 | (long)(index + 1)); }
unsigned mig_number(void *handle) { return (unsigned)((long)handle >> 8) - 1; }

static int mig_find(const gpu *of, unsigned number, mig *found) {
    FILE *file = state_open();
    char rest[LINE];
    int seen = 0;
    while (file && state_next(file, "mig", of->uuid, rest, sizeof rest)) {
        if ((unsigned)seen++ != number) continue;
        fclose(file);
        return sscanf(rest, "%95[^|]|%95[^|]|%llu|%llu", found->uuid, found->profile, &found->memory, &found->used) == 4
            ? SUCCESS : NOT_FOUND;
    }
    if (file) fclose(file);
    return NOT_FOUND;
}

static int on_device(void *handle, gpu *g, mig *m) {
    int code = device_find(handle, g);
    return code || !is_mig(handle) ? code : mig_find(g, mig_number(handle), m);
}

API int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    gpu g;
    mig m;
    int code = on_device(handle, &g, &m);
    if (!code) snprintf(text, size, "%s", is_mig(handle) ? m.uuid : g.uuid);
    return code;
}

API int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
    gpu g;
    mig m;
    int code = on_device(handle, &g, &m);
    if (code) return code;
    if (is_mig(handle)) snprintf(text, size, "%s MIG %s", g.model, m.profile);
    else snprintf(text, size, "%s", g.model);
    return SUCCESS;
}

API int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *info) { /* total, free, used: bytes */
    gpu g;
    mig m;
    int code = on_device(handle, &g, &m);
    if (code) return code;
    info[0] = (is_mig(handle) ? m.memory : g.memory) << 20;
    info[2] = (is_mig(handle) ? m.used : g.used) << 20;
    info[1] = info[0] - info[2];
    return SUCCESS;
}

/* version, total, reserved, free, used. "reserved|GPU-aaaa|650": so many MiB of what is used are the driver's own. */
API int nvmlDeviceGetMemoryInfo_v2(void *handle, unsigned long long *info) {
    unsigned long long plain[3], reserved = 0;
    char rest[LINE];
    gpu g;
    int code = nvmlDeviceGetMemoryInfo(handle, plain);
    if (code) return code;
    device_find(handle, &g);
    if (!is_mig(handle) && state_line("reserved", g.uuid, rest, sizeof rest)) reserved = strtoull(rest, NULL, 10) << 20;
    info[1] = plain[0];
    info[2] = reserved;
    info[3] = plain[1];
    info[4] = plain[2] - reserved;
    return SUCCESS;
}

API int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *next) {
    gpu g;
    mig m;
    char rest[LINE];
    int code = device_find(handle, &g);
    if (code) return code;
    if (is_mig(handle)) return INVALID_ARGUMENT;
    if (!strstr(g.model, "A100") && !strstr(g.model, "A30") && !strstr(g.model, "H100") && !strstr(g.model, "H200"))
        return NOT_SUPPORTED;
    *now = *next = mig_find(&g, 0, &m) == SUCCESS || state_line("migmode", g.uuid, rest, sizeof rest);
    return SUCCESS;
}

API int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) {
    gpu g;
    int code = device_find(handle, &g);
    if (!code) *count = 7;
    return code;
}

API int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned number, void **found) {
    gpu g;
    mig m;
    int code = device_find(handle, &g);
    if (code) return code;
    if (is_mig(handle)) return INVALID_ARGUMENT;
    *found = mig_handle((unsigned)(long)handle - 1, number);
    return mig_find(&g, number, &m);
}
