struct item {
    const char *text;
    struct item *next;
};
struct item *list_insert(struct item *list, const char *text);
unsigned text_length(const char *text);
unsigned list_sum(const struct item *list);
void queue_print(const struct item *list);
