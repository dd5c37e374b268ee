/* What all subjects of the shim share: a libnvidia-ml.so.1 for tests answers as the driver does, for what is described in
 * the file that FAKE_NVML_STATE names. It is read anew at each call, so that a test can break a GPU while a task runs.
 *
 *   GPU-aaaa|NVIDIA A10|24576|1024|37|61|0     a GPU: uuid|model|memory MiB|used MiB|util ("-": not told)|temperature|lost
 *   subject|GPU-aaaa|...                       something about it; each subject says in its file what its lines hold
 *   broken                                     as the first line: the whole driver fails */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15
};
enum { MOST_GPUS = 64, MOST_MIG = 8, LINE = 512, WORD = 96 };

typedef struct {
    char uuid[WORD], model[WORD], util[16];
    unsigned long long memory, used; /* MiB */
    unsigned heat;
    int lost;
} gpu;

FILE *state_open(void);                 /* NULL: there is no file */
int state_gpus(gpu *gpus, int most);    /* how many; -1: the driver is broken */

/* The next line "subject|uuid|rest" of the file: its rest, without the newline; 0 when there is none. `uuid` NULL: of any GPU. */
int state_next(FILE *file, const char *subject, const char *uuid, char *rest, size_t size);
/* The first such line; 0 when there is none. */
int state_line(const char *subject, const char *uuid, char *rest, size_t size);

/* A device handle is the number of its GPU, from 1; that of a MIG device is below, with the number of its GPU in it. */
int device_find(void *handle, gpu *found);   /* an error code; of a MIG device: its GPU */
int is_mig(void *handle);
void *mig_handle(unsigned index, unsigned number);
unsigned mig_number(void *handle);
