/* What the C programs share: clocks, the connection, the document of the benchmark, and how a figure is said.
 * They are written as the manuals of libmongoc and libbson show, in what a careful programmer would send. */
#ifndef LUMO_BENCH_COMMON_H
#define LUMO_BENCH_COMMON_H

#include <mongoc/mongoc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define DATABASE "lumo_bench"
#define DOCUMENTS 10000
#define DOCUMENT_SIZE 750

static inline double seconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* CPU of this process: user and system, all of its threads. */
static inline double cpu(void) {
  return seconds(CLOCK_PROCESS_CPUTIME_ID);
}

static inline double wall(void) {
  return seconds(CLOCK_MONOTONIC);
}

static inline void keep_lowest(double *lowest, double value) {
  if (*lowest == 0 || value < *lowest) *lowest = value;
}

/* One figure: its name and seconds for one unit. */
static inline void report(const char *name, double value) {
  printf("%s %.9g\n", name, value);
}

static inline void check(bool ok, const bson_error_t *error) {
  if (ok) return;
  fprintf(stderr, "bench: %s\n", error->message);
  exit(1);
}

static inline mongoc_client_t *connect_client(void) {
  bson_error_t error;
  const char *text = getenv("LUMO_TEST_URI");
  mongoc_init();
  mongoc_uri_t *uri = mongoc_uri_new_with_error(text ? text : "", &error);
  check(uri != NULL, &error);
  mongoc_client_t *client = mongoc_client_new_from_uri(uri);
  mongoc_uri_destroy(uri);
  mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2);
  return client;
}

/* A post as a program has it before it is stored, with texts of its own. */
typedef struct post {
  char title[80], slug[80], *body;
  bson_oid_t author;
  int number;
} post;

/* 13 fields, DOCUMENT_SIZE bytes with a body of the right length: as bench/common.lua makes it. */
static inline void append_post(bson_t *document, const post *p) {
  bson_oid_t id;
  int n = p->number;
  bson_oid_init(&id, NULL);
  BSON_APPEND_OID(document, "_id", &id);
  BSON_APPEND_UTF8(document, "title", p->title);
  BSON_APPEND_UTF8(document, "slug", p->slug);
  BSON_APPEND_UTF8(document, "summary", "What the post has to say, in one sentence.");
  BSON_APPEND_UTF8(document, "body", p->body);
  BSON_APPEND_OID(document, "author_id", &p->author);
  BSON_APPEND_UTF8(document, "status", "published");
  BSON_APPEND_INT32(document, "views", n);
  BSON_APPEND_INT32(document, "likes", n % 100);
  BSON_APPEND_DOUBLE(document, "rating", n + 0.25);
  BSON_APPEND_BOOL(document, "featured", n % 2 == 0);
  BSON_APPEND_DATE_TIME(document, "created_at", 1700000000000 + n);
  BSON_APPEND_DATE_TIME(document, "updated_at", 1700000000000 + n);
}

#endif
