#include "parts.h"

unsigned list_sum(const struct item *list) {
    return list ? text_length(list->text) + list_sum(list->next) : 0;
}
