#include "parts.h"
#include <string.h>

unsigned text_length(const char *text) {
    return strlen(text);
}
