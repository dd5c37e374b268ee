/* A libnvidia-ml.so.1 for tests: answers as the driver does, for GPUs described in the file that FAKE_NVML_STATE names.
 * One GPU a line: "uuid|model|memory MiB|used MiB|util|temperature|lost". Read anew at each call, so that a test can break one.
 * The first line "broken" makes the whole driver fail, util "-" means that this GPU does not tell.
 * A line "process|uuid|pid|MiB" is a process that computes on a GPU; with "-" for MiB the driver does not say how much it holds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };

typedef struct { char uuid[96], model[96], util[16]; unsigned long long memory, used; unsigned heat; int lost; } gpu;

static int read_gpus(gpu *gpus, int most) {
    const char *name = getenv("FAKE_NVML_STATE");
    FILE *file = name ? fopen(name, "r") : NULL;
    char line[512];
    int count = 0;
    if (!file) return -1;
    while (count < most && fgets(line, sizeof line, file)) {
        gpu *g = &gpus[count];
        if (!strncmp(line, "broken", 6)) { count = -1; break; }
        if (sscanf(line, "%95[^|]|%95[^|]|%llu|%llu|%15[^|]|%u|%d", g->uuid, g->model, &g->memory, &g->used, g->util,
                   &g->heat, &g->lost) == 7) count++;
    }
    fclose(file);
    return count;
}

static int find(void *handle, gpu *found) {
    gpu gpus[64];
    int count = read_gpus(gpus, 64);
    long index = (long)handle - 1;
    if (index < 0 || index >= count) return INVALID_ARGUMENT;
    *found = gpus[index];
    return found->lost ? GPU_IS_LOST : SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) { gpu gpus[64]; (void)flags; return read_gpus(gpus, 64) < 0 ? DRIVER_NOT_LOADED : SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == GPU_IS_LOST ? "GPU is lost" : "an error"; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    gpu gpus[64];
    int found = read_gpus(gpus, 64);
    *count = found < 0 ? 0 : (unsigned)found;
    return found < 0 ? DRIVER_NOT_LOADED : SUCCESS;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = (void *)(long)(index + 1); gpu g; return find(*handle, &g); }
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) { gpu g; int code = find(handle, &g); if (!code) snprintf(text, size, "%s", g.uuid); return code; }
int nvmlDeviceGetName(void *handle, char *text, unsigned size) { gpu g; int code = find(handle, &g); if (!code) snprintf(text, size, "%s", g.model); return code; }
int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *info) { /* total, free, used: bytes */
    gpu g;
    int code = find(handle, &g);
    if (!code) { info[0] = g.memory << 20; info[2] = g.used << 20; info[1] = info[0] - info[2]; }
    return code;
}
int nvmlDeviceGetUtilizationRates(void *handle, unsigned *rates) {
    gpu g;
    int code = find(handle, &g);
    if (code) return code;
    if (g.util[0] == '-') return NOT_SUPPORTED;
    rates[0] = (unsigned)atoi(g.util);
    rates[1] = 0;
    return SUCCESS;
}
int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *heat) { gpu g; int code = find(handle, &g); (void)sensor; if (!code) *heat = g.heat; return code; }

typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process;

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, process *found) {
    const char *name = getenv("FAKE_NVML_STATE");
    char line[512], uuid[96], used[32];
    unsigned pid, most = *count;
    gpu g;
    int code = find(handle, &g);
    FILE *file = name ? fopen(name, "r") : NULL;
    if (code || !file) { if (file) fclose(file); return code ? code : DRIVER_NOT_LOADED; }
    *count = 0;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "process|%95[^|]|%u|%31s", uuid, &pid, used) != 3 || strcmp(uuid, g.uuid)) continue;
        if (found && *count < most) {
            unsigned long long bytes = used[0] == '-' ? ~0ULL : strtoull(used, NULL, 10) << 20;
            found[*count] = (process){pid, bytes, ~0U, ~0U};
        }
        ++*count;
    }
    fclose(file);
    return *count > (found ? most : 0) ? INSUFFICIENT_SIZE : SUCCESS;
}
