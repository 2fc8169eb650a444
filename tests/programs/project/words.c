#include "parts.h"
#include <stdio.h>

int main(int count, char **words) {
    struct item *list = 0;
    for (int i = 1; i < count; i++)
        list = list_insert(list, words[i]);
    queue_print(list);
    printf("%u\n", list_sum(list));
    return 0;
}
