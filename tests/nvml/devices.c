/* The library itself, and what every GPU tells: name, memory, how busy and how hot it is. */
#include "state.h"

int device_find(void *handle, gpu *found) {
    gpu gpus[MOST_GPUS];
    int count = state_gpus(gpus, MOST_GPUS);
    long index = ((long)handle & 0xff) - 1;
    if (count < 0) return DRIVER_NOT_LOADED;
    if (index < 0 || index >= count) return INVALID_ARGUMENT;
    *found = gpus[index];
    return found->lost ? GPU_IS_LOST : SUCCESS;
}

API int nvmlInitWithFlags(unsigned flags) {
    gpu gpus[MOST_GPUS];
    (void)flags;
    return state_gpus(gpus, MOST_GPUS) < 0 ? DRIVER_NOT_LOADED : SUCCESS;
}
API int nvmlShutdown(void) { return SUCCESS; }
API const char *nvmlErrorString(int code) { return code == GPU_IS_LOST ? "GPU is lost" : "an error"; }

API int nvmlDeviceGetCount_v2(unsigned *count) {
    gpu gpus[MOST_GPUS];
    int found = state_gpus(gpus, MOST_GPUS);
    *count = found < 0 ? 0 : (unsigned)found;
    return found < 0 ? DRIVER_NOT_LOADED : SUCCESS;
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    gpu g;
    *handle = (void *)(long)(index + 1);
    return device_find(*handle, &g);
}

API int nvmlDeviceGetUtilizationRates(void *handle, unsigned *rates) {
    gpu g;
    int code = device_find(handle, &g);
    if (code) return code;
    if (g.util[0] == '-' || is_mig(handle)) return NOT_SUPPORTED;
    rates[0] = (unsigned)atoi(g.util);
    rates[1] = 0;
    return SUCCESS;
}

API int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *heat) {
    gpu g;
    int code = device_find(handle, &g);
    (void)sensor;
    if (!code) *heat = g.heat;
    return code;
}
