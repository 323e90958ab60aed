/* When each kernel and each copy of a process had the GPU.
 *
 * Loaded by the CUDA driver itself (CUDA_INJECTION64_PATH). Writes COUNTS_DIR/<pid>.bin, every three
 * seconds and when the process ends (a killed one does not end): six 64 bit numbers, the times of
 * CUPTI's clock and of CLOCK_MONOTONIC at the beginning and now, how many records were dropped, how
 * many follow; then the records. Read by timeline.py.
 */
#include <cupti.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (8u << 20)
#define RECORDS 3000000
#define KERNEL 1
#define COPY 100 /* and CUPTI's kind of copy */

typedef struct {
    unsigned long long start, end; /* ns */
    unsigned kind, stream, grid, bytes;
    char name[40];
} record_t;

typedef unsigned long long ull;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static record_t *records;
static size_t count;
static pid_t owner;
static ull dropped, cupti_0, monotonic_0;

static ull monotonic(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void add(const CUpti_Activity *activity) {
    if (count >= RECORDS) {
        dropped++;
        return;
    }
    if (activity->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
        const CUpti_ActivityMemcpy6 *copy = (const void *)activity;
        record_t *record = &records[count++];
        record->start = copy->start;
        record->end = copy->end;
        record->kind = COPY + copy->copyKind;
        record->stream = copy->streamId;
        record->bytes = copy->bytes;
    } else if (activity->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
        const CUpti_ActivityKernel9 *kernel = (const void *)activity;
        record_t *record = &records[count++];
        record->start = kernel->start;
        record->end = kernel->end;
        record->kind = KERNEL;
        record->stream = kernel->streamId;
        record->grid = kernel->gridX * kernel->gridY * kernel->gridZ;
        if (kernel->name) strncpy(record->name, kernel->name, sizeof record->name - 1);
    }
}

static void CUPTIAPI give(uint8_t **buffer, size_t *size, size_t *max_records) {
    *size = BUFFER;
    *buffer = aligned_alloc(64, BUFFER);
    *max_records = 0;
}

static void CUPTIAPI take(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size,
                          size_t valid) {
    CUpti_Activity *activity = NULL;
    size_t lost = 0;
    (void)size;
    pthread_mutex_lock(&lock);
    while (cuptiActivityGetNextRecord(buffer, valid, &activity) == CUPTI_SUCCESS) add(activity);
    cuptiActivityGetNumDroppedRecords(context, stream, &lost);
    dropped += lost;
    pthread_mutex_unlock(&lock);
    free(buffer);
}

static void dump(int at_end) {
    char path[512];
    const char *folder = getenv("COUNTS_DIR");
    uint64_t cupti_1;
    if (getpid() != owner) return; /* a fork */
    cuptiActivityFlushAll(at_end);
    cuptiGetTimestamp(&cupti_1);
    snprintf(path, sizeof path, "%s/%d.bin", folder ? folder : ".", (int)owner);
    pthread_mutex_lock(&lock);
    FILE *out = fopen(path, "w");
    if (out) {
        ull head[6] = {cupti_0, monotonic_0, cupti_1, monotonic(), dropped, count};
        fwrite(head, sizeof head, 1, out);
        fwrite(records, sizeof *records, count, out);
        fclose(out);
    }
    pthread_mutex_unlock(&lock);
}

static void dump_at_end(void) { dump(1); }

static void *dump_often(void *unused) {
    for (;;) {
        sleep(3);
        dump(0);
    }
    return unused;
}

int InitializeInjection(void) {
    pthread_t thread;
    uint64_t now;
    owner = getpid();
    records = calloc(RECORDS, sizeof *records);
    if (!records || cuptiActivityRegisterCallbacks(give, take) != CUPTI_SUCCESS) return 0;
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
    cuptiGetTimestamp(&now);
    cupti_0 = now;
    monotonic_0 = monotonic();
    atexit(dump_at_end);
    pthread_create(&thread, NULL, dump_often, NULL);
    return 1;
}
