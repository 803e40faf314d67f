/* Walks every value of the documents with bson_iter: flat ones, and ones with an array and an object. */
#include "common.h"

#define PASSES 30

static bson_t *documents[DOCUMENTS];

static void load(mongoc_client_t *client, const char *collection) {
  bson_error_t error;
  bson_t filter = BSON_INITIALIZER;
  const bson_t *document;
  int count = 0;
  mongoc_collection_t *posts = mongoc_client_get_collection(client, DATABASE, collection);
  mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(posts, &filter, NULL, NULL);
  while (count < DOCUMENTS && mongoc_cursor_next(cursor, &document)) documents[count++] = bson_copy(document);
  check(!mongoc_cursor_error(cursor, &error), &error);
  if (count < DOCUMENTS) abort();
  mongoc_cursor_destroy(cursor);
  mongoc_collection_destroy(posts);
  bson_destroy(&filter);
}

/* What stands in the values goes into a sum, so that all of them are read. */
static uint64_t walk(bson_iter_t *it) {
  uint64_t sum = 0;
  uint32_t len;
  bson_iter_t inner;
  while (bson_iter_next(it)) {
    sum += (unsigned char)*bson_iter_key(it);
    switch (bson_iter_type(it)) {
    case BSON_TYPE_UTF8: sum += (unsigned char)*bson_iter_utf8(it, &len) + len; break;
    case BSON_TYPE_OID: sum += bson_iter_oid(it)->bytes[11]; break;
    case BSON_TYPE_INT32: sum += (uint64_t)bson_iter_int32(it); break;
    case BSON_TYPE_INT64: sum += (uint64_t)bson_iter_int64(it); break;
    case BSON_TYPE_DOUBLE: sum += (uint64_t)bson_iter_double(it); break;
    case BSON_TYPE_BOOL: sum += bson_iter_bool(it); break;
    case BSON_TYPE_DATE_TIME: sum += (uint64_t)bson_iter_date_time(it); break;
    case BSON_TYPE_DOCUMENT:
    case BSON_TYPE_ARRAY:
      if (bson_iter_recurse(it, &inner)) sum += walk(&inner);
      break;
    default: break;
    }
  }
  return sum;
}

static void measure(mongoc_client_t *client, const char *collection, const char *name) {
  uint64_t sum = 0;
  double lowest = 0;
  load(client, collection);
  for (int pass = 0; pass < PASSES; pass++) {
    double start = cpu();
    for (int i = 0; i < DOCUMENTS; i++) {
      bson_iter_t it;
      if (bson_iter_init(&it, documents[i])) sum += walk(&it);
    }
    keep_lowest(&lowest, (cpu() - start) / DOCUMENTS);
  }
  if (sum == 0) abort();
  for (int i = 0; i < DOCUMENTS; i++) bson_destroy(documents[i]);
  report(name, lowest);
}

int main(void) {
  mongoc_client_t *client = connect_client();
  measure(client, "posts", "walk");
  measure(client, "nested_posts", "walk_nested");
  mongoc_client_destroy(client);
  mongoc_cleanup();
}
