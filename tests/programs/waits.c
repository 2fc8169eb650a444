/* Threads for the tools to look at: two that take two mutexes in opposite order, and one that only gives up the CPU. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

static pthread_mutex_t left = PTHREAD_MUTEX_INITIALIZER, right = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t both;

static void *first(void *unused)
{
    pthread_mutex_lock(&left);
    pthread_barrier_wait(&both);
    pthread_mutex_lock(&right);
    return unused;
}

static void *second(void *unused)
{
    pthread_mutex_lock(&right);
    pthread_barrier_wait(&both);
    pthread_mutex_lock(&left);
    return unused;
}

static void *yielder(void *unused)
{
    for (;;)
        sched_yield();
    return unused;
}

int main(void)
{
    pthread_t threads[3];
    pthread_barrier_init(&both, NULL, 2);
    pthread_create(&threads[0], NULL, first, NULL);
    pthread_setname_np(threads[0], "first");
    pthread_create(&threads[1], NULL, second, NULL);
    pthread_setname_np(threads[1], "second");
    pthread_create(&threads[2], NULL, yielder, NULL);
    pthread_setname_np(threads[2], "yielder");
    for (;;)
        pause();
}
