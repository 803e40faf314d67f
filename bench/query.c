/* The command of where("a", 1):where("b", ">", 2):order_by("c"):limit(10), built with bson_append_…: the same
 * as lumo sends. */
#include "common.h"

#define PASSES 20
#define BUILDS 20000

static uint32_t build(int i) {
  bson_t command = BSON_INITIALIZER, filter, both, part, condition, sort;
  BSON_APPEND_UTF8(&command, "find", "things");
  BSON_APPEND_DOCUMENT_BEGIN(&command, "filter", &filter);
  BSON_APPEND_ARRAY_BEGIN(&filter, "$and", &both);
  BSON_APPEND_DOCUMENT_BEGIN(&both, "0", &part);
  BSON_APPEND_DOCUMENT_BEGIN(&part, "a", &condition);
  BSON_APPEND_INT32(&condition, "$eq", i);
  bson_append_document_end(&part, &condition);
  bson_append_document_end(&both, &part);
  BSON_APPEND_DOCUMENT_BEGIN(&both, "1", &part);
  BSON_APPEND_DOCUMENT_BEGIN(&part, "b", &condition);
  BSON_APPEND_INT32(&condition, "$gt", 2);
  bson_append_document_end(&part, &condition);
  bson_append_document_end(&both, &part);
  bson_append_array_end(&filter, &both);
  bson_append_document_end(&command, &filter);
  BSON_APPEND_DOCUMENT_BEGIN(&command, "sort", &sort);
  BSON_APPEND_INT32(&sort, "c", 1);
  bson_append_document_end(&command, &sort);
  BSON_APPEND_INT64(&command, "limit", 10);
  BSON_APPEND_INT32(&command, "batchSize", INT32_MAX);
  uint32_t len = command.len;
  bson_destroy(&command);
  return len;
}

int main(void) {
  double lowest = 0;
  uint64_t sum = 0;
  for (int pass = 0; pass < PASSES; pass++) {
    double start = cpu();
    for (int i = 0; i < BUILDS; i++) sum += build(i);
    keep_lowest(&lowest, (cpu() - start) / BUILDS);
  }
  if (sum == 0) abort();
  report("build", lowest);
}
