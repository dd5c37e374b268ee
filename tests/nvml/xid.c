/* Xid events: each line "xid|GPU-aaaa|79" that is added to the file is one event for whoever has registered before.
 * Who waits sleeps until the file changes, as with a driver: no look at it costs anything in between. */
#include <poll.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>
#include "state.h"

enum { XID_CRITICAL = 8 };
typedef struct { unsigned seen; unsigned long long registered; int changes; } event_set;
typedef struct { void *device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } event;

static int index_of(const char *uuid) {
    gpu gpus[MOST_GPUS];
    int count = state_gpus(gpus, MOST_GPUS);
    for (int i = 0; i < count; i++) if (!strcmp(gpus[i].uuid, uuid)) return i;
    return -1;
}

/* The next event of a GPU that is registered; 0: there is none yet. */
static int next_event(event_set *set, event *found) {
    FILE *file = state_open();
    char line[LINE], uuid[WORD];
    unsigned number, count = 0;
    int is_found = 0;
    while (file && !is_found && fgets(line, sizeof line, file)) {
        if (sscanf(line, "xid|%95[^|]|%u", uuid, &number) != 2 || ++count <= set->seen) continue;
        set->seen = count;
        int index = index_of(uuid);
        if (index < 0 || !(set->registered >> index & 1)) continue;
        *found = (event){(void *)(long)(index + 1), XID_CRITICAL, number, ~0U, ~0U};
        is_found = 1;
    }
    if (file) fclose(file);
    return is_found;
}

API int nvmlEventSetCreate(void **made) {
    event_set *set = calloc(1, sizeof *set);
    const char *name = getenv("FAKE_NVML_STATE");
    char directory[4096], line[LINE];
    FILE *file = state_open();
    while (file && fgets(line, sizeof line, file)) set->seen += !strncmp(line, "xid|", 4); /* what was before is told to nobody */
    if (file) fclose(file);
    snprintf(directory, sizeof directory, "%s", name ? name : ".");
    char *slash = strrchr(directory, '/');
    if (slash) *slash = 0; else strcpy(directory, ".");
    set->changes = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    inotify_add_watch(set->changes, directory, IN_CLOSE_WRITE | IN_MOVED_TO);
    *made = set;
    return SUCCESS;
}

API int nvmlDeviceRegisterEvents(void *handle, unsigned long long types, void *set) {
    gpu g;
    int code = device_find(handle, &g);
    if (code) return code;
    if (!(types & XID_CRITICAL)) return NOT_SUPPORTED;
    ((event_set *)set)->registered |= 1ULL << (((long)handle & 0xff) - 1);
    return SUCCESS;
}

API int nvmlEventSetWait_v2(void *handle, event *found, unsigned timeout_ms) {
    event_set *set = handle;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long long end = now.tv_sec * 1000LL + now.tv_nsec / 1000000 + timeout_ms;
    for (;;) {
        char changes[4096];
        while (read(set->changes, changes, sizeof changes) > 0) {}
        if (next_event(set, found)) return SUCCESS;
        clock_gettime(CLOCK_MONOTONIC, &now);
        long long left = end - (now.tv_sec * 1000LL + now.tv_nsec / 1000000);
        if (left <= 0) return TIMEOUT;
        struct pollfd change = {set->changes, POLLIN, 0};
        poll(&change, 1, (int)left);
    }
}

API int nvmlEventSetFree(void *handle) {
    close(((event_set *)handle)->changes);
    free(handle);
    return SUCCESS;
}
