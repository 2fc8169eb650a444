// Threads as C programs use them: create, join, mutex, condition, barrier, read-write lock, thread-local data, once, cancel,
// process-shared locks over fork. Prints one line when all is well. Built static and dynamic, with glibc and with musl.
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 8
#define ROUNDS 2000

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static __thread long own = 7;
static long total, turn, destroyed, made;

static void check(int good, const char *what) {
    if (!good) {
        printf("failed: %s\n", what);
        exit(1);
    }
}

static void destroy(void *value) {
    __atomic_add_fetch(&destroyed, (long)value, __ATOMIC_SEQ_CST);
}

static void make(void) {
    check(pthread_key_create(&key, destroy) == 0, "pthread_key_create");
    made++;
}

static void *work(void *argument) {
    long number = (long)argument;
    pthread_once(&once, make);
    pthread_setspecific(key, (void *)1);
    own += number;
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        total++;
        pthread_mutex_unlock(&mutex);
        pthread_rwlock_rdlock(&rwlock);
        pthread_rwlock_unlock(&rwlock);
    }
    // Each in its turn, round and round.
    for (int i = 0; i < 20; i++) {
        pthread_mutex_lock(&mutex);
        while (turn % THREADS != number)
            pthread_cond_wait(&changed, &mutex);
        turn++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&mutex);
    }
    check(own == 7 + number, "thread-local data");
    return (void *)(number * number);
}

static void *sleep_on(void *unused) {
    for (;;)
        pause();
    return unused;
}

struct shared {
    pthread_mutex_t mutex;
    sem_t done;
    long count;
};

static void processes(void) {
    struct shared *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(shared != MAP_FAILED, "mmap");
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&shared->mutex, &attributes);
    sem_init(&shared->done, 1, 0);
    for (int child = 0; child < 4; child++) {
        if (fork() == 0) {
            for (int i = 0; i < ROUNDS; i++) {
                pthread_mutex_lock(&shared->mutex);
                shared->count++;
                pthread_mutex_unlock(&shared->mutex);
            }
            sem_post(&shared->done);
            _exit(0);
        }
    }
    for (int child = 0; child < 4; child++)
        sem_wait(&shared->done);
    while (wait(0) > 0)
        ;
    check(shared->count == 4 * ROUNDS, "process-shared mutex");
}

int main(void) {
    pthread_t threads[THREADS];
    pthread_barrier_init(&barrier, 0, THREADS);
    for (long i = 0; i < THREADS; i++)
        check(pthread_create(&threads[i], 0, work, (void *)i) == 0, "pthread_create");
    long squares = 0;
    for (int i = 0; i < THREADS; i++) {
        void *result;
        check(pthread_join(threads[i], &result) == 0, "pthread_join");
        squares += (long)result;
    }
    check(total == THREADS * ROUNDS, "mutex");
    check(turn == 20 * THREADS, "condition");
    check(squares == 140, "results");
    check(made == 1 && destroyed == THREADS, "once and keys");
    pthread_t sleeper;
    void *result;
    check(pthread_create(&sleeper, 0, sleep_on, 0) == 0, "pthread_create");
    check(pthread_cancel(sleeper) == 0 && pthread_join(sleeper, &result) == 0, "pthread_cancel");
    check(result == PTHREAD_CANCELED, "cancelled");
    processes();
    printf("threads: all well\n");
    return 0;
}
