/* How GPUs are joined: "link|GPU-aaaa|GPU-bbbb|nvlink", or single, multiple, hostbridge, node, system (what `nvidia-smi topo -m`
 * calls PIX, PXB, PHB, NODE, SYS). GPUs of which no line speaks are on other NUMA nodes (system). */
#include "state.h"

enum { NVLINK_CAPABILITY = 2, P2P_OK = 0, P2P_NOT_SUPPORTED = 5 };

static int level_between(void *one, void *two, int *level, int *nvlink) {
    static const struct { const char *name; int level; } levels[] = {
        {"single", 10}, {"multiple", 20}, {"hostbridge", 30}, {"node", 40}, {"system", 50}};
    char rest[LINE], other[WORD], word[32];
    gpu a, b;
    FILE *file;
    int code = device_find(one, &a);
    if (!code) code = device_find(two, &b);
    if (code) return code;
    *level = strcmp(a.uuid, b.uuid) ? 50 : 0;
    *nvlink = 0;
    for (int turn = 0; turn < 2; turn++) { /* written in either direction */
        if (!(file = state_open())) return DRIVER_NOT_LOADED;
        while (state_next(file, "link", turn ? b.uuid : a.uuid, rest, sizeof rest)) {
            if (sscanf(rest, "%95[^|]|%31s", other, word) != 2 || strcmp(other, turn ? a.uuid : b.uuid)) continue;
            if (!strcmp(word, "nvlink")) *nvlink = 1;
            for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
                if (!strcmp(word, levels[i].name)) *level = levels[i].level;
        }
        fclose(file);
    }
    return SUCCESS;
}

API int nvmlDeviceGetTopologyCommonAncestor(void *one, void *two, int *level) {
    int nvlink;
    return level_between(one, two, level, &nvlink);
}

API int nvmlDeviceGetP2PStatus(void *one, void *two, int capability, int *status) {
    int level, nvlink, code = level_between(one, two, &level, &nvlink);
    if (code) return code;
    if (capability != NVLINK_CAPABILITY) return NOT_SUPPORTED;
    *status = nvlink ? P2P_OK : P2P_NOT_SUPPORTED;
    return SUCCESS;
}
