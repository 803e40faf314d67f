/* 50,000 documents made with bson_append_… and stored by one bulk insert. */
#include "common.h"

#define ROWS 50000
#define AUTHORS 100
#define PASSES 2

int main(void) {
  mongoc_client_t *client = connect_client();
  mongoc_collection_t *posts = mongoc_client_get_collection(client, DATABASE, "created");
  bson_error_t error;
  bson_oid_t authors[AUTHORS];
  char *body = make_body();
  double lowest = 0;
  for (int i = 0; i < AUTHORS; i++) bson_oid_init(&authors[i], NULL);
  for (int pass = 0; pass < PASSES; pass++) {
    check(mongoc_collection_delete_many(posts, &(bson_t)BSON_INITIALIZER, NULL, NULL, &error), &error);
    double start = cpu();
    mongoc_bulk_operation_t *bulk = mongoc_collection_create_bulk_operation_with_opts(posts, NULL);
    for (int i = 0; i < ROWS; i++) {
      bson_t post = BSON_INITIALIZER;
      append_post(&post, i, &authors[i % AUTHORS], body);
      check(mongoc_bulk_operation_insert_with_opts(bulk, &post, NULL, &error), &error);
      bson_destroy(&post);
    }
    check(mongoc_bulk_operation_execute(bulk, NULL, &error) != 0, &error);
    mongoc_bulk_operation_destroy(bulk);
    keep_lowest(&lowest, (cpu() - start) / ROWS);
  }
  report("create_many", lowest);
  free(body);
  mongoc_collection_destroy(posts);
  mongoc_client_destroy(client);
  mongoc_cleanup();
}
