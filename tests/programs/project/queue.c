#include "parts.h"
#include <stdio.h>

void queue_print(const struct item *list) {
    for (; list; list = list->next)
        printf("%s\n", list->text);
}
