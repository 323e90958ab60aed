/* Counts every memory copy of a process, and with COUNTS_KERNELS=1 the time of each kernel.
 *
 * Loaded by the CUDA driver itself (CUDA_INJECTION64_PATH), so no copy can pass it by, whichever
 * library made it. Writes COUNTS_DIR/<pid>.json when the process ends.
 */
#include <cupti.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KINDS 16
#define KERNELS 512
#define BUFFER (8u << 20)

typedef struct {
    char name[96];
    unsigned long long calls, ns;
} kernel_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long long bytes[KINDS], copies[KINDS], dropped;
static kernel_t kernels[KERNELS];
static int kernel_count;
static pid_t owner;

static void add_kernel(const char *name, unsigned long long ns) {
    int i;
    for (i = 0; i < kernel_count && strncmp(kernels[i].name, name, sizeof kernels[i].name - 1); i++) {
    }
    if (i == KERNELS) return;
    if (i == kernel_count) strncpy(kernels[kernel_count++].name, name, sizeof kernels[i].name - 1);
    kernels[i].calls++;
    kernels[i].ns += ns;
}

static void add(const CUpti_Activity *record) {
    if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
        const CUpti_ActivityMemcpy6 *copy = (const CUpti_ActivityMemcpy6 *)record;
        if (copy->copyKind < KINDS) {
            bytes[copy->copyKind] += copy->bytes;
            copies[copy->copyKind]++;
        }
    } else if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
        const CUpti_ActivityKernel9 *kernel = (const CUpti_ActivityKernel9 *)record;
        add_kernel(kernel->name ? kernel->name : "?", kernel->end - kernel->start);
    }
}

static void CUPTIAPI give(uint8_t **buffer, size_t *size, size_t *max_records) {
    *size = BUFFER;
    *buffer = aligned_alloc(64, BUFFER);
    *max_records = 0;
}

static void CUPTIAPI take(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size,
                          size_t valid) {
    CUpti_Activity *record = NULL;
    size_t lost = 0;
    pthread_mutex_lock(&lock);
    while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) add(record);
    cuptiActivityGetNumDroppedRecords(context, stream, &lost);
    dropped += lost;
    pthread_mutex_unlock(&lock);
    free(buffer);
}

static void dump(void) {
    static const char *names[KINDS] = {"unknown", "HtoD", "DtoH", "HtoA", "AtoH", "AtoA",
                                       "AtoD",    "DtoA", "DtoD", "HtoH", "PtoP"};
    char path[512];
    const char *folder = getenv("COUNTS_DIR");
    if (getpid() != owner) return; /* a fork */
    cuptiActivityFlushAll(1);
    snprintf(path, sizeof path, "%s/%d.json", folder ? folder : ".", (int)owner);
    FILE *out = fopen(path, "w");
    if (!out) return;
    fprintf(out, "{\"dropped\": %llu, \"copies\": {", dropped);
    const char *comma = "";
    for (int i = 0; i < KINDS; i++) {
        if (!copies[i]) continue;
        fprintf(out, "%s\"%s\": {\"count\": %llu, \"bytes\": %llu}", comma,
                names[i] ? names[i] : "other", copies[i], bytes[i]);
        comma = ", ";
    }
    fprintf(out, "}, \"kernels\": {");
    for (int i = 0; i < kernel_count; i++)
        fprintf(out, "%s\"%s\": {\"count\": %llu, \"ns\": %llu}", i ? ", " : "", kernels[i].name,
                kernels[i].calls, kernels[i].ns);
    fprintf(out, "}}\n");
    fclose(out);
}

int InitializeInjection(void) {
    owner = getpid();
    if (cuptiActivityRegisterCallbacks(give, take) != CUPTI_SUCCESS) return 0;
    if (cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY) != CUPTI_SUCCESS) return 0;
    if (getenv("COUNTS_KERNELS")) cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
    atexit(dump);
    return 1;
}
