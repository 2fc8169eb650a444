#include "parts.h"
#include <stdlib.h>
#include <string.h>

struct item *list_insert(struct item *list, const char *text) {
    if (!list || strcmp(text, list->text) < 0) {
        struct item *item = malloc(sizeof *item);
        item->text = text;
        item->next = list;
        return item;
    }
    list->next = list_insert(list->next, text);
    return list;
}
