/* Rows of a pivot by hand: 10,000 new ones by one unordered insert, and a sync: read the owner's rows, find
 * what is missing and what is too much, insert and delete that in one transaction. */
#include "common.h"

#define ROWS 10000
#define DIFFERENT 100
#define PASSES 5

typedef struct pivot {
  mongoc_client_t *client;
  mongoc_collection_t *rows;
  bson_oid_t owner;
} pivot;

static void append_pair(bson_t *row, const bson_oid_t *owner, int64_t tag) {
  BSON_APPEND_OID(row, "post_id", owner);
  BSON_APPEND_INT32(row, "tag_id", (int32_t)tag);
}

static void insert_rows(pivot *p, const int64_t *tags, int count, const bson_t *opts) {
  bson_error_t error;
  mongoc_bulk_operation_t *bulk = mongoc_collection_create_bulk_operation_with_opts(p->rows, opts);
  for (int i = 0; i < count; i++) {
    bson_t row = BSON_INITIALIZER;
    bson_oid_t id;
    bson_oid_init(&id, NULL);
    BSON_APPEND_OID(&row, "_id", &id);
    append_pair(&row, &p->owner, tags[i]);
    check(mongoc_bulk_operation_insert_with_opts(bulk, &row, NULL, &error), &error);
    bson_destroy(&row);
  }
  check(mongoc_bulk_operation_execute(bulk, NULL, &error) != 0, &error);
  mongoc_bulk_operation_destroy(bulk);
}

static void delete_rows(pivot *p, const bson_t *ids, const bson_t *opts) {
  bson_error_t error;
  bson_t filter = BSON_INITIALIZER, in;
  BSON_APPEND_DOCUMENT_BEGIN(&filter, "_id", &in);
  BSON_APPEND_ARRAY(&in, "$in", ids);
  bson_append_document_end(&filter, &in);
  check(mongoc_collection_delete_many(p->rows, &filter, opts, NULL, &error), &error);
  bson_destroy(&filter);
}

/* Marks the tags that have a row in `seen`, gathers the _ids of rows of other tags. */
static void read_rows(pivot *p, const bson_t *session, int64_t first, bool *seen, bson_t *doomed) {
  bson_error_t error;
  const bson_t *row;
  uint32_t count = 0;
  bson_t filter = BSON_INITIALIZER, *opts = BCON_NEW("batchSize", BCON_INT32(1000000));
  BSON_APPEND_OID(&filter, "post_id", &p->owner);
  bson_concat(opts, session);
  mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(p->rows, &filter, opts, NULL);
  while (mongoc_cursor_next(cursor, &row)) {
    bson_iter_t id, tag;
    if (!bson_iter_init_find(&id, row, "_id") || !bson_iter_init_find(&tag, row, "tag_id")) abort();
    int64_t n = bson_iter_as_int64(&tag) - first;
    if (n >= 0 && n < ROWS) {
      seen[n] = true;
    } else {
      char buffer[16];
      const char *key;
      size_t len = bson_uint32_to_string(count++, &key, buffer, sizeof buffer);
      bson_append_oid(doomed, key, (int)len, bson_iter_oid(&id));
    }
  }
  check(!mongoc_cursor_error(cursor, &error), &error);
  mongoc_cursor_destroy(cursor);
  bson_destroy(opts);
  bson_destroy(&filter);
}

/* Makes the tags be first … first + ROWS - 1. */
static void sync_rows(pivot *p, int64_t first) {
  static bool seen[ROWS];
  static int64_t missing[ROWS];
  bson_error_t error;
  int count = 0;
  bson_t session_opts = BSON_INITIALIZER, insert_opts, doomed = BSON_INITIALIZER;
  memset(seen, 0, sizeof seen);
  mongoc_client_session_t *session = mongoc_client_start_session(p->client, NULL, &error);
  check(session != NULL, &error);
  check(mongoc_client_session_start_transaction(session, NULL, &error), &error);
  check(mongoc_client_session_append(session, &session_opts, &error), &error);
  bson_copy_to(&session_opts, &insert_opts);
  BSON_APPEND_BOOL(&insert_opts, "ordered", false);
  read_rows(p, &session_opts, first, seen, &doomed);
  for (int i = 0; i < ROWS; i++)
    if (!seen[i]) missing[count++] = first + i;
  insert_rows(p, missing, count, &insert_opts);
  delete_rows(p, &doomed, &session_opts);
  check(mongoc_client_session_commit_transaction(session, NULL, &error), &error);
  mongoc_client_session_destroy(session);
  bson_destroy(&doomed);
  bson_destroy(&insert_opts);
  bson_destroy(&session_opts);
}

int main(void) {
  pivot p = {.client = connect_client()};
  p.rows = mongoc_client_get_collection(p.client, DATABASE, "post_tag");
  static int64_t tags[ROWS];
  double attach = 0, attach_cpu = 0, sync = 0, sync_cpu = 0;
  bson_t *unordered = BCON_NEW("ordered", BCON_BOOL(false));
  for (int i = 0; i < ROWS; i++) tags[i] = i + 1;
  for (int pass = 0; pass < PASSES; pass++) {
    bson_oid_init(&p.owner, NULL);
    double start = wall(), start_cpu = cpu();
    insert_rows(&p, tags, ROWS, unordered);
    keep_lowest(&attach, wall() - start);
    keep_lowest(&attach_cpu, cpu() - start_cpu);
    start = wall(), start_cpu = cpu();
    sync_rows(&p, 1 + DIFFERENT);
    keep_lowest(&sync, wall() - start);
    keep_lowest(&sync_cpu, cpu() - start_cpu);
  }
  report("attach", attach);
  report("attach_cpu", attach_cpu);
  report("sync", sync);
  report("sync_cpu", sync_cpu);
  bson_destroy(unordered);
  mongoc_collection_destroy(p.rows);
  mongoc_client_destroy(p.client);
  mongoc_cleanup();
}
