/* What is wrong with a GPU, as the driver tells it when it is asked:
 *   ecc|GPU-aaaa|3|7             uncorrected errors since the driver was loaded, and ever
 *   retired|GPU-aaaa|2|1         pages retired for double-bit errors, and whether some are to be retired at the next load
 *   remapped|GPU-aaaa|1|2|1|0    rows remapped for corrected errors, for uncorrected ones, whether some are pending, a failure
 *   throttle|GPU-aaaa|48         reasons for lower clocks, hexadecimal as nvml.h has them
 *   power|GPU-aaaa|215           watts
 *   driver|-|550.54.15           the version of the driver
 * A GPU of which no line speaks has no ECC errors, no remapped rows, and tells neither retired pages nor power. */
#include "state.h"

enum { UNCORRECTED = 1, VOLATILE = 0, DOUBLE_BIT = 1 };

static int line_of(void *handle, const char *subject, char *rest, int *code) {
    gpu g;
    *code = device_find(handle, &g);
    return !*code && state_line(subject, g.uuid, rest, LINE);
}

API int nvmlDeviceGetTotalEccErrors(void *handle, int type, int counter, unsigned long long *errors) {
    char rest[LINE];
    unsigned long long now = 0, ever = 0;
    int code, found = line_of(handle, "ecc", rest, &code);
    if (code) return code;
    if (type != UNCORRECTED) return NOT_SUPPORTED;
    if (found) sscanf(rest, "%llu|%llu", &now, &ever);
    *errors = counter == VOLATILE ? now : ever;
    return SUCCESS;
}

API int nvmlDeviceGetRetiredPages(void *handle, int cause, unsigned *count, unsigned long long *addresses) {
    char rest[LINE];
    unsigned pages = 0, room = *count;
    int code, found = line_of(handle, "retired", rest, &code);
    if (code) return code;
    if (!found) return NOT_SUPPORTED;
    if (cause == DOUBLE_BIT) sscanf(rest, "%u", &pages);
    *count = pages;
    for (unsigned i = 0; addresses && i < pages && i < room; i++) addresses[i] = 0x1000ULL * (i + 1);
    return pages > (addresses ? room : 0) ? INSUFFICIENT_SIZE : SUCCESS;
}

API int nvmlDeviceGetRetiredPagesPendingStatus(void *handle, int *pending) {
    char rest[LINE];
    int code, found = line_of(handle, "retired", rest, &code);
    if (code) return code;
    if (!found) return NOT_SUPPORTED;
    *pending = 0;
    sscanf(rest, "%*u|%d", pending);
    return SUCCESS;
}

API int nvmlDeviceGetRemappedRows(void *handle, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failure) {
    char rest[LINE];
    int code, found = line_of(handle, "remapped", rest, &code);
    if (code) return code;
    *corrected = *uncorrected = *pending = *failure = 0;
    if (found) sscanf(rest, "%u|%u|%u|%u", corrected, uncorrected, pending, failure);
    return SUCCESS;
}

static int reasons_of(void *handle, unsigned long long *reasons) {
    char rest[LINE];
    int code, found = line_of(handle, "throttle", rest, &code);
    if (code) return code;
    *reasons = found ? strtoull(rest, NULL, 16) : 0;
    return SUCCESS;
}
API int nvmlDeviceGetCurrentClocksEventReasons(void *handle, unsigned long long *reasons) { return reasons_of(handle, reasons); }
API int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *reasons) { return reasons_of(handle, reasons); }

API int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    char rest[LINE];
    int code, found = line_of(handle, "power", rest, &code);
    if (code) return code;
    if (!found) return NOT_SUPPORTED;
    *milliwatts = (unsigned)(atof(rest) * 1000);
    return SUCCESS;
}

API int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    char rest[LINE];
    snprintf(text, size, "%s", state_line("driver", NULL, rest, sizeof rest) ? rest : "560.35.03");
    return SUCCESS;
}
