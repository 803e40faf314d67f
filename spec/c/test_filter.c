/* Filters over two sides: what each side is asked, and what both are. */
#include "core/filter.h"
#include "plan_script.h"

static lumo_filter filter;
static lumo_error error;

static void setup(void) {
  lumo_filter_free(&filter);
  lumo_error_init(&error);
}

/* A condition given as JSON. */
static void add(lumo_join join, lumo_side side, const char *json) {
  lumo_buf condition = from_json(json);
  lumo_filter_begin(&filter);
  lumo_buf_append(&filter.bytes, condition.data, condition.len);
  CHECK(lumo_filter_end(&filter, join, false, side));
  lumo_buf_free(&condition);
}

static void open_group(lumo_join join, bool negated) {
  CHECK(lumo_filter_open(&filter, join, negated, &error));
}

/* Takes the filter that was written. */
#define SHOWS(written, expected) check_written((written), (expected), __FILE__, __LINE__)
static void check_written(lumo_buf *written, const char *expected, const char *file, int line) {
  lumo_buf text = {0};
  lumo_json_document(&text, written->data, written->len, false, LUMO_JSON_RELAXED);
  lumo_buf_free(written);
  check_script(&text, expected, file, line);
}

#define SIDE(side, expected)                                                                                 \
  do {                                                                                                       \
    lumo_buf out = {0};                                                                                      \
    lumo_filter_write_side(&filter, (side), &out);                                                           \
    SHOWS(&out, expected);                                                                                   \
  } while (0)

#define PAIRED(expected)                                                                                     \
  do {                                                                                                       \
    lumo_buf out = {0};                                                                                      \
    lumo_filter_write_paired(&filter, &out);                                                                 \
    SHOWS(&out, expected);                                                                                   \
  } while (0)

static void test_and(void) {
  setup();
  CHECK(lumo_filter_splits(&filter));
  SIDE(LUMO_SIDE_PIVOT, "{}");
  PAIRED("{}");
  add(LUMO_AND, LUMO_SIDE_RELATED, "{'n':{'$eq':1}}");
  add(LUMO_AND, LUMO_SIDE_PIVOT, "{'role':{'$in':[1,2]},'w.x':{'$gt':{'a':1}}}");
  CHECK(lumo_filter_splits(&filter));
  SIDE(LUMO_SIDE_RELATED, "{'$and':[{'n':{'$eq':1}}]}");
  SIDE(LUMO_SIDE_PIVOT, "{'$and':[{'role':{'$in':[1,2]},'w.x':{'$gt':{'a':1}}}]}");
  PAIRED("{'$and':[{'n':{'$eq':1}},{'__lumo_pivot.role':{'$in':[1,2]},'__lumo_pivot.w.x':{'$gt':{'a':1}}}]}");
}

/* What an `or` says of one side alone, it demands of neither. */
static void test_or(void) {
  setup();
  add(LUMO_AND, LUMO_SIDE_RELATED, "{'n':{'$eq':1}}");
  add(LUMO_OR, LUMO_SIDE_PIVOT, "{'role':{'$eq':2}}");
  CHECK(!lumo_filter_splits(&filter));
  SIDE(LUMO_SIDE_RELATED, "{}");
  SIDE(LUMO_SIDE_PIVOT, "{}");
  PAIRED("{'$or':[{'n':{'$eq':1}},{'__lumo_pivot.role':{'$eq':2}}]}");
}

/* The parts beside such a group are demanded in any case, and groups of one side stay whole. */
static void test_groups(void) {
  setup();
  add(LUMO_AND, LUMO_SIDE_PIVOT, "{'kind':{'$eq':'x'}}");
  lumo_filter_settle(&filter);
  add(LUMO_AND, LUMO_SIDE_RELATED, "{'n':{'$gt':0}}");
  open_group(LUMO_AND, false);
  add(LUMO_AND, LUMO_SIDE_RELATED, "{'n':{'$eq':1}}");
  add(LUMO_OR, LUMO_SIDE_PIVOT, "{'role':{'$eq':2}}");
  lumo_filter_close(&filter);
  open_group(LUMO_AND, true);
  add(LUMO_AND, LUMO_SIDE_PIVOT, "{'a':{'$eq':1}}");
  add(LUMO_OR, LUMO_SIDE_PIVOT, "{'b':{'$eq':2}}");
  lumo_filter_close(&filter);
  CHECK(!lumo_filter_splits(&filter));
  SIDE(LUMO_SIDE_RELATED, "{'$and':[{'n':{'$gt':0}}]}");
  SIDE(LUMO_SIDE_PIVOT,
       "{'$and':[{'kind':{'$eq':'x'}},{'$nor':[{'$or':[{'a':{'$eq':1}},{'b':{'$eq':2}}]}]}]}");
  PAIRED("{'$and':[{'__lumo_pivot.kind':{'$eq':'x'}},{'$and':[{'n':{'$gt':0}},"
         "{'$or':[{'n':{'$eq':1}},{'__lumo_pivot.role':{'$eq':2}}]},"
         "{'$nor':[{'$or':[{'__lumo_pivot.a':{'$eq':1}},{'__lumo_pivot.b':{'$eq':2}}]}]}]}]}");
}

/* A negated group of both sides demands nothing of either; one that is joined by `and` does. */
static void test_negated(void) {
  setup();
  open_group(LUMO_AND, true);
  add(LUMO_AND, LUMO_SIDE_RELATED, "{'n':{'$eq':1}}");
  add(LUMO_AND, LUMO_SIDE_PIVOT, "{'role':{'$eq':2}}");
  lumo_filter_close(&filter);
  CHECK(!lumo_filter_splits(&filter));
  SIDE(LUMO_SIDE_RELATED, "{}");
  PAIRED("{'$nor':[{'$and':[{'n':{'$eq':1}},{'__lumo_pivot.role':{'$eq':2}}]}]}");
  setup();
  open_group(LUMO_AND, false);
  add(LUMO_AND, LUMO_SIDE_RELATED, "{'n':{'$eq':1}}");
  add(LUMO_AND, LUMO_SIDE_PIVOT, "{'role':{'$eq':2}}");
  lumo_filter_close(&filter);
  CHECK(lumo_filter_splits(&filter));
  SIDE(LUMO_SIDE_PIVOT, "{'$and':[{'role':{'$eq':2}}]}");
}

/* A condition that compares both sides is written as it is, and splits nothing. */
static void test_both(void) {
  setup();
  add(LUMO_AND, LUMO_SIDE_RELATED, "{'n':{'$eq':1}}");
  add(LUMO_AND, LUMO_SIDE_BOTH, "{'$expr':{'$eq':['$n','$__lumo_pivot.w']}}");
  CHECK(!lumo_filter_splits(&filter));
  SIDE(LUMO_SIDE_RELATED, "{'$and':[{'n':{'$eq':1}}]}");
  SIDE(LUMO_SIDE_PIVOT, "{}");
  PAIRED("{'$and':[{'n':{'$eq':1}},{'$expr':{'$eq':['$n','$__lumo_pivot.w']}}]}");
  setup();
  add(LUMO_AND, LUMO_SIDE_BOTH, "{'$expr':{'$eq':['$n','$__lumo_pivot.w']}}");
  CHECK(!lumo_filter_splits(&filter));
}

/* A filter outgrows the memory that it was lent, and a copy has its own. */
static void test_lent(void) {
  char bytes[40];
  struct lumo_clause clauses[2];
  lumo_filter copy = {0};
  setup();
  filter = lumo_filter_lend(bytes, sizeof bytes, clauses, 2);
  add(LUMO_AND, LUMO_SIDE_RELATED, "{'n':{'$eq':1}}");
  CHECK(filter.lent && filter.bytes.lent && lumo_filter_copy(&copy, &filter));
  add(LUMO_AND, LUMO_SIDE_RELATED, "{'m':{'$eq':2}}");
  CHECK(filter.lent && !filter.bytes.lent);
  lumo_mem_fail_at(1);
  CHECK(!lumo_filter_open(&filter, LUMO_OR, false, &error) && filter.count == 2 && filter.lent);
  lumo_mem_fail_at(0);
  lumo_error_init(&error);
  add(LUMO_OR, LUMO_SIDE_RELATED, "{'o':{'$eq':3}}");
  CHECK(!filter.lent);
  SIDE(LUMO_SIDE_RELATED, "{'$or':[{'$and':[{'n':{'$eq':1}},{'m':{'$eq':2}}]},{'o':{'$eq':3}}]}");
  setup();
  filter = copy;
  SIDE(LUMO_SIDE_RELATED, "{'n':{'$eq':1}}");
}

int main(void) {
  test_and();
  test_or();
  test_groups();
  test_negated();
  test_both();
  test_lent();
  setup();
  return check_report();
}
