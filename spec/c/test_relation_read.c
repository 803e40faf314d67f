/* Loading across the pivot: the commands, and the join of parents, rows and related documents. */
#include "core/relation_read.h"
#include "plan_script.h"

static lumo_pivot pivot;
static lumo_related_query query;
static lumo_buf documents[8]; /* what the query points to; freed by setup */
static int document_count;
static lumo_error error;

static void setup(void) {
  while (document_count > 0) lumo_buf_free(&documents[--document_count]);
  lumo_error_reset(&error);
  pivot = (lumo_pivot){.collection = "pt", .owner_key = "post_id", .related_key = "tag_id"};
  query = (lumo_related_query){.collection = "tags", .key = "_id", .op = LUMO_RELATED_FIND};
}

/* Makes a part of the query point to a document. */
static void set_part(const uint8_t **part, uint32_t *len, const char *json) {
  lumo_buf *document = &documents[document_count++];
  *document = from_json(json);
  *part = document->data;
  *len = (uint32_t)document->len;
}

/* The elements of an object, without its head and its end. */
static void set_extra(const char *json) {
  set_part(&query.extra, &query.extra_len, json);
  query.extra += 4;
  query.extra_len -= 5;
}

/* The owners from 1 to n; more than one are asked for to be loaded. */
static lumo_related_plan *new_plan(int32_t n) {
  lumo_keys owners = {0};
  uint32_t index;
  for (int32_t i = 1; i <= n; i++) {
    uint8_t bytes[4];
    memcpy(bytes, &i, sizeof bytes);
    lumo_value owner = {bytes, sizeof bytes, LUMO_BSON_INT32};
    lumo_keys_add(&owners, &owner, &index);
  }
  bool eager = query.eager;
  if (n > 1 && query.op == LUMO_RELATED_FIND) query.eager = true;
  lumo_related_plan *plan = lumo_related_plan_new("load", &pivot, &owners, &query, &error);
  query.eager = eager;
  CHECK(plan != NULL);
  lumo_keys_free(&owners);
  return plan;
}

static void show_number(lumo_buf *out, const struct lumo_doc *document, const char *name) {
  char text[32];
  snprintf(text, sizeof text, "%lld", (long long)lumo_reply_count(document->data, document->len, name));
  show(out, text);
}

#define ROWS(plan, expected) check_rows((plan), (expected), __LINE__)
/* The rows as "owner:n of the related/w of the pivot row", one after the other; "owner:n" without a pivot.
 * Frees the plan. */
static void check_rows(lumo_related_plan *plan, const char *expected, int line) {
  lumo_buf out = {0};
  char text[32];
  EXPECT(&plan->plan, "done");
  for (uint32_t i = 0; i < plan->row_count; i++) {
    const lumo_related_row *row = &plan->rows[i];
    snprintf(text, sizeof text, "%s%u:", i ? " " : "", row->owner);
    show(&out, text);
    show_number(&out, &plan->documents.items[row->document], "n");
    if (row->pivot == LUMO_NO_PIVOT) continue;
    show(&out, "/");
    show_number(&out, &plan->pivots.items[row->pivot], "w");
  }
  check_script(&out, expected, __FILE__, line);
  end_plan(&plan->plan);
}

/* ---- find ---- */

static void test_one_owner(void) {
  setup();
  lumo_related_plan *plan = new_plan(1);
  CHECK(!plan->plan.atomic);
  EXPECT(&plan->plan, "read pt {'find':'pt','filter':{'post_id':{'$in':[1]}},"
                      "'projection':{'_id':0,'post_id':1,'tag_id':1},'batchSize':1000000}");
  /* Null and missing keys are no rows; a pair that stands twice is two; 12 is an orphan. */
  FEED(
      &plan->plan,
      BATCH(
          "{'post_id':1,'tag_id':10,'w':1},{'post_id':1,'tag_id':null},{'post_id':1},"
          "{'post_id':1,'tag_id':11,'w':2},{'post_id':1,'tag_id':12,'w':3},{'post_id':1,'tag_id':10,'w':4}"));
  EXPECT(&plan->plan, "read tags {'find':'tags','filter':{'_id':{'$in':[10,11,12]}},'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'_id':11,'n':110},{'_id':{'$numberDouble':'10.0'},'n':100}"));
  ROWS(plan, "0:100/1 0:110/2 0:100/4");
}

static void test_no_rows(void) {
  setup();
  lumo_related_plan *plan = new_plan(2);
  FEED(&plan->plan, BATCH("{'post_id':1,'tag_id':null}"));
  ROWS(plan, "");
  ROWS(new_plan(0), "");
  plan = new_plan(2); /* only orphans */
  FEED(&plan->plan, BATCH("{'post_id':1,'tag_id':5}"));
  FEED(&plan->plan, BATCH(""));
  ROWS(plan, "");
}

static void test_conditions(void) {
  static const char *const fields[] = {"role", "post_id", "_id", "tag_id"};
  setup();
  set_part(&pivot.condition, &pivot.condition_len, "{'kind':'x'}");
  set_part(&query.pivot_filter, &query.pivot_filter_len, "{'$or':[{'role':1},{'post_id':9}]}");
  set_part(&query.filter, &query.filter_len, "{'_id':{'$gt':0}}");
  set_part(&query.projection, &query.projection_len, "{'_id':1,'n':1}");
  set_part(&query.sort, &query.sort_len, "{'n':-1}");
  query.pivot_fields = fields;
  query.pivot_field_count = 4;
  query.limit = 3;
  query.skip = 2;
  set_extra("{'hint':'h','maxTimeMS':5}");
  lumo_related_plan *plan = new_plan(1);
  setup(); /* frees all that the plan was made from */
  EXPECT(&plan->plan, "read pt "
                      "{'find':'pt','filter':{'post_id':{'$in':[1]},'$and':[{'kind':'x'},{'$or':[{'role':1},{"
                      "'post_id':9}]}]},"
                      "'projection':{'role':1,'_id':1,'post_id':1,'tag_id':1},'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'post_id':1,'tag_id':10,'w':1},{'post_id':1,'tag_id':11,'w':2}"));
  EXPECT(&plan->plan,
         "read tags {'find':'tags','filter':{'_id':{'$in':[10,11]},'$and':[{'_id':{'$gt':0}}]},"
         "'projection':{'_id':1,'n':1},'sort':{'n':-1},'skip':2,'limit':3,'hint':'h','maxTimeMS':5,"
         "'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'_id':11,'n':5},{'_id':10,'n':4}"));
  ROWS(plan, "0:5/2 0:4/1");
}

/* A limit alone goes by the related key, and so do the rows. */
static void test_limit(void) {
  setup();
  query.limit = 2;
  query.all_pivot_fields = true;
  query.key = "slug";
  lumo_related_plan *plan = new_plan(1);
  EXPECT(&plan->plan, "read pt {'find':'pt','filter':{'post_id':{'$in':[1]}},'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'post_id':1,'tag_id':'b','w':1},{'post_id':1,'tag_id':'a','w':2}"));
  EXPECT(&plan->plan, "read tags "
                      "{'find':'tags','filter':{'slug':{'$in':['b','a'],'$not':{'$type':'array'}}},'sort':{'"
                      "slug':1},'limit':2,"
                      "'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'slug':'a','n':1},{'slug':'b','n':2}"));
  ROWS(plan, "0:1/2 0:2/1");
}

/* A pair that stands twice is two records: the limit is made here then. */
static void test_limit_of_a_bag(void) {
  setup();
  query.limit = 2;
  query.skip = 1;
  set_part(&query.sort, &query.sort_len, "{'n':1}");
  lumo_related_plan *plan = new_plan(1);
  FEED(&plan->plan, BATCH("{'post_id':1,'tag_id':2,'w':1},{'post_id':1,'tag_id':1,'w':2},"
                          "{'post_id':1,'tag_id':2,'w':3}"));
  EXPECT(&plan->plan, "read tags {'find':'tags','filter':{'_id':{'$in':[2,1]}},'sort':{'n':1},'limit':3,"
                      "'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'_id':2,'n':5},{'_id':1,'n':6}"));
  ROWS(plan, "0:5/3 0:6/2");
}

/* Many parents that share related records, in several batches; with and without an order. */
static void test_many_owners(void) {
  setup();
  for (int sorted = 0; sorted < 2; sorted++) {
    if (sorted) set_part(&query.sort, &query.sort_len, "{'n':1}");
    lumo_related_plan *plan = new_plan(4);
    EXPECT(&plan->plan, "read pt {'find':'pt','filter':{'post_id':{'$in':[1,2,3,4]}},"
                        "'projection':{'_id':0,'post_id':1,'tag_id':1},'batchSize':1000000}");
    FEED(&plan->plan,
         BATCH_OF(
             9,
             "{'post_id':4,'tag_id':1,'w':1},{'post_id':1,'tag_id':2,'w':2},{'post_id':7,'tag_id':3,'w':3}"));
    EXPECT(&plan->plan, "more pt 9");
    FEED(&plan->plan, BATCH("{'post_id':1,'tag_id':1,'w':4},{'post_id':{'$numberLong':'3'},'tag_id':2,'w':5},"
                            "{'post_id':1,'tag_id':9,'w':6},{'post_id':[1,2],'tag_id':2,'w':7}"));
    FEED(&plan->plan, BATCH_OF(8, "{'_id':2,'n':20}"));
    EXPECT(&plan->plan, "more tags 8");
    FEED(&plan->plan,
         sorted ? BATCH("{'_id':9,'n':30},{'_id':1,'n':40}") : BATCH("{'_id':1,'n':40},{'_id':9,'n':30}"));
    ROWS(plan, sorted ? "0:20/2 0:30/6 0:40/4 2:20/5 3:40/1" : "0:20/2 0:40/4 0:30/6 2:20/5 3:40/1");
  }
}

/* A related key that is not unique, and documents without one. */
static void test_shared_key(void) {
  setup();
  query.key = "slug";
  for (int sorted = 0; sorted < 2; sorted++) {
    if (sorted) set_part(&query.sort, &query.sort_len, "{'n':1}");
    lumo_related_plan *plan = new_plan(2);
    FEED(&plan->plan, BATCH("{'post_id':2,'tag_id':'a','w':1},{'post_id':1,'tag_id':'b','w':2},{'post_id':1,'"
                            "tag_id':'a','w':3}"));
    FEED(&plan->plan,
         BATCH("{'slug':'a','n':1},{'slug':'b','n':2},{'slug':'a','n':3},{'n':4},{'slug':['a'],'n':5}"));
    ROWS(plan, sorted ? "0:1/3 0:2/2 0:3/3 1:1/1 1:3/1" : "0:2/2 0:1/3 0:3/3 1:1/1 1:3/1");
  }
}

static void test_restart(void) {
  setup();
  lumo_related_plan *plan = new_plan(2);
  lumo_plan *base = &plan->plan;
  const char *find = "read pt {'find':'pt','filter':{'post_id':{'$in':[1,2]}},"
                     "'projection':{'_id':0,'post_id':1,'tag_id':1},'batchSize':1000000}";
  FEED(base, BATCH_OF(4, "{'post_id':1,'tag_id':1,'w':1}"));
  EXPECT(base, "more pt 4");
  restart_plan(base);
  EXPECT(base, find);
  FEED(base, BATCH("{'post_id':1,'tag_id':1,'w':1}"));
  FEED(base, BATCH("{'_id':1,'n':1}"));
  EXPECT(base, "done");
  CHECK_INT(plan->row_count, 1);
  restart_plan(base);
  CHECK_INT(plan->row_count, 0);
  EXPECT(base, find);
  FEED(base, BATCH("{'post_id':2,'tag_id':7,'w':2}"));
  EXPECT(base, "read tags {'find':'tags','filter':{'_id':{'$in':[7]}},'batchSize':1000000}");
  FEED(base, BATCH("{'_id':7,'n':7}"));
  ROWS(plan, "1:7/2");
}

/* ---- count, update, delete ---- */

static void test_count(void) {
  setup();
  query.op = LUMO_RELATED_COUNT;
  set_part(&query.filter, &query.filter_len, "{'n':1}");
  set_extra("{'comment':'c'}");
  lumo_related_plan *plan = new_plan(2);
  EXPECT(&plan->plan, "read pt "
                      "{'find':'pt','filter':{'post_id':{'$in':[1,2]}},'projection':{'_id':0,'tag_id':1},'"
                      "batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'tag_id':1},{'tag_id':2},{'tag_id':null}"));
  EXPECT(&plan->plan,
         "read1 tags {'aggregate':'tags','pipeline':[{'$match':{'_id':{'$in':[1,2]},'$and':[{'n':1}]}},"
         "{'$count':'n'}],'comment':'c','cursor':{'batchSize':1000000}}");
  FEED(&plan->plan, BATCH("{'n':{'$numberLong':'2'}}"));
  EXPECT(&plan->plan, "done");
  CHECK_INT(plan->count, 2);
  end_plan(&plan->plan);
  plan = new_plan(1); /* a pair that stands twice counts twice */
  FEED(&plan->plan, BATCH("{'tag_id':1},{'tag_id':2},{'tag_id':1},{'tag_id':3}"));
  EXPECT(&plan->plan, "read tags {'find':'tags','filter':{'_id':{'$in':[1,2,3]},'$and':[{'n':1}]},"
                      "'projection':{'_id':1},'comment':'c','batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'_id':1},{'_id':2}"));
  EXPECT(&plan->plan, "done");
  CHECK_INT(plan->count, 3);
  end_plan(&plan->plan);
  plan = new_plan(1);
  FEED(&plan->plan, BATCH("{'tag_id':1}"));
  FEED(&plan->plan, BATCH("")); /* how the server says none */
  EXPECT(&plan->plan, "done");
  CHECK_INT(plan->count, 0);
  end_plan(&plan->plan);
}

static void test_bulk(void) {
  setup();
  query.op = LUMO_RELATED_UPDATE;
  set_part(&query.update, &query.update_len, "{'$set':{'n':2}}");
  lumo_related_plan *plan = new_plan(1);
  FEED(&plan->plan, BATCH("{'tag_id':1},{'tag_id':2}"));
  EXPECT(&plan->plan, "write! tags U{'_id':{'$in':[1,2]}},{'$set':{'n':2}}");
  FEED(&plan->plan, "{'nMatched':2,'nModified':1}");
  EXPECT(&plan->plan, "done");
  CHECK_INT(plan->count, 2);
  end_plan(&plan->plan);
  setup();
  query.op = LUMO_RELATED_DELETE;
  set_part(&query.filter, &query.filter_len, "{'n':1}");
  plan = new_plan(1);
  FEED(&plan->plan, BATCH("{'tag_id':1}"));
  EXPECT(&plan->plan, "write! tags D{'_id':{'$in':[1]},'$and':[{'n':1}]}");
  FEED(&plan->plan, "{'nRemoved':1}");
  EXPECT(&plan->plan, "done");
  CHECK_INT(plan->count, 1);
  end_plan(&plan->plan);
  plan = new_plan(1);
  FEED(&plan->plan, BATCH(""));
  EXPECT(&plan->plan, "done");
  CHECK_INT(plan->count, 0);
  end_plan(&plan->plan);
}

/* ---- more than one command takes ---- */

/* A batch of pivot rows: tags from..to-1 of one post. */
static lumo_buf make_batch(int32_t post, int32_t from, int32_t to) {
  lumo_buf out = {0};
  size_t reply = lumo_bson_begin(&out);
  size_t cursor = lumo_bson_begin_document(&out, LUMO_KEY("cursor"));
  lumo_bson_int64(&out, LUMO_KEY("id"), 0);
  size_t batch = lumo_bson_begin_array(&out, LUMO_KEY("firstBatch"));
  for (int32_t i = from; i < to; i++) {
    lumo_bson_index(&out, LUMO_BSON_DOCUMENT, (uint32_t)(i - from));
    size_t row = lumo_bson_begin(&out);
    lumo_bson_int32(&out, LUMO_KEY("post_id"), post);
    lumo_bson_int32(&out, LUMO_KEY("tag_id"), i);
    lumo_bson_end(&out, row);
  }
  lumo_bson_end(&out, batch);
  lumo_bson_end(&out, cursor);
  lumo_bson_end(&out, reply);
  return out;
}

static void feed_rows(lumo_related_plan *plan, int32_t post, int32_t from, int32_t to) {
  lumo_buf batch = make_batch(post, from, to);
  CHECK(feed_bytes(&plan->plan, &batch, false, &error));
  lumo_buf_free(&batch);
}

/* The next step: a READ of this collection, with a list of this length at a path. */
static void check_list(lumo_related_plan *plan, const char *collection, const char *path, int expected) {
  lumo_step step;
  lumo_value list;
  lumo_iter it;
  int count = 0;
  CHECK(plan->plan.class->next(&plan->plan, &step, &error) && step.kind == LUMO_STEP_READ);
  stepped = &plan->plan;
  CHECK(strcmp(step.collection, collection) == 0);
  CHECK(lumo_bson_find_path(step.command, step.command_len, path, strlen(path), &list));
  lumo_iter_value(&it, &list);
  while (lumo_iter_next(&it)) count++;
  CHECK_INT(count, expected);
}

static void test_portions(void) {
  setup();
  lumo_related_plan *plan = new_plan(100001);
  check_list(plan, "pt", "filter.post_id.$in", 100000);
  feed_rows(plan, 1, 0, 100001);
  check_list(plan, "pt", "filter.post_id.$in", 1);
  feed_rows(plan, 100001, 0, 2);
  check_list(plan, "tags", "filter._id.$in", 100000);
  FEED(&plan->plan, BATCH("{'_id':1,'n':1}"));
  EXPECT(&plan->plan, "read tags {'find':'tags','filter':{'_id':{'$in':[100000]}},'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'_id':100000,'n':2}"));
  ROWS(plan, "0:1/0 0:2/0 100000:1/0");
  query.op = LUMO_RELATED_COUNT;
  plan = new_plan(1);
  check_list(plan, "pt", "filter.post_id.$in", 1);
  feed_rows(plan, 1, 0, 100001);
  check_list(plan, "tags", "pipeline.0.$match._id.$in", 100000);
  FEED(&plan->plan, BATCH("{'n':90000}"));
  check_list(plan, "tags", "pipeline.0.$match._id.$in", 1);
  FEED(&plan->plan, BATCH("{'n':1}"));
  EXPECT(&plan->plan, "done");
  CHECK_INT(plan->count, 90001);
  end_plan(&plan->plan);
}

/* Portions have no common order, so an ordered find takes as many keys as a command has bytes for. */
static void test_ordered_large(void) {
  setup();
  query.limit = 2;
  lumo_related_plan *plan = new_plan(1);
  feed_rows(plan, 1, 0, 100001);
  check_list(plan, "tags", "filter._id.$in", 100001);
  FEED(&plan->plan, BATCH("{'_id':7,'n':1},{'_id':100000,'n':2}"));
  ROWS(plan, "0:1/0 0:2/0");
}

/* Beyond that the server joins: for one owner in one command, for many it gives the rows in order. */
static void test_ordered_portions(void) {
  enum { TOO_MANY = 650000 }; /* of 20 bytes each */
  setup();
  query.skip = 1;
  query.limit = 5;
  lumo_related_plan *plan = new_plan(1);
  feed_rows(plan, 1, 0, TOO_MANY);
  check_list(plan, "pt", "pipeline.0.$match.post_id.$in", 1);
  FEED(&plan->plan, BATCH("{'p':{'post_id':1,'tag_id':7,'w':1},'r':{'_id':7,'n':2}}"));
  ROWS(plan, "0:2/1");
  setup();
  set_part(&query.sort, &query.sort_len, "{'n':1}");
  plan = new_plan(1001);
  check_list(plan, "pt", "filter.post_id.$in", 1001);
  feed_rows(plan, 2, 0, TOO_MANY);
  check_list(plan, "pt", "pipeline.0.$match.post_id.$in", 1000);
  FEED(&plan->plan,
       BATCH("{'p':{'post_id':2,'tag_id':6,'w':1},'k':6},{'p':{'post_id':2,'tag_id':5,'w':2},'k':5}"));
  check_list(plan, "pt", "pipeline.0.$match.post_id.$in", 1);
  FEED(&plan->plan, BATCH("{'p':{'post_id':1001,'tag_id':6,'w':3},'k':6}"));
  EXPECT(&plan->plan, "read tags {'find':'tags','filter':{'_id':{'$in':[6,5]}},'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'_id':5,'n':50},{'_id':6,'n':60}"));
  ROWS(plan, "1:60/1 1:50/2 1000:60/3");
}

/* ---- pipelines: of one owner ---- */

#define OWNERS(list) "{'$match':{'post_id':{'$in':" list "},"
#define NAMES_KEY "'tag_id':{'$ne':null,'$not':{'$type':['regex','array']}}}},"
#define WRAP "{'$project':{'_id':0,'__lumo_pivot':'$$ROOT'}},"
#define LOOKUP(local)                                                                                        \
  "{'$lookup':{'from':'tags','localField':'" local "','foreignField':'_id','as':'r'}},{'$unwind':'$r'},"
#define JOIN(row) "{'$replaceRoot':{'newRoot':{'$mergeObjects':['$r',{'__lumo_pivot':'" row "'}]}}},"
#define PAIRED_ROW "{'post_id':'$__lumo_pivot.post_id','tag_id':'$__lumo_pivot.tag_id'}"
#define DOCUMENTS "{'$project':{'_id':0,'p':" PAIRED_ROW ",'r':'$$ROOT'}},{'$project':{'r.__lumo_pivot':0}}],"
#define CURSOR "'allowDiskUse':true,'cursor':{'batchSize':1000000}}"

/* An order of the pivot's with a limit: sorted first, joined until the limit is reached. */
static void test_paired_by_pivot(void) {
  setup();
  set_part(&query.sort, &query.sort_len, "{'__lumo_pivot.role':-1}");
  set_part(&query.filter, &query.filter_len, "{'n':{'$gt':0}}");
  set_part(&query.pivot_filter, &query.pivot_filter_len, "{'role':{'$ne':null}}");
  set_extra("{'hint':'h','collation':{'locale':'en'}}");
  query.limit = 2;
  query.skip = 1;
  lumo_related_plan *plan = new_plan(1);
  EXPECT(&plan->plan,
         "read pt {'aggregate':'pt','pipeline':[" OWNERS(
             "[1]") "'$and':[{'role':{'$ne':null}}]," NAMES_KEY "{'$sort':{'role':-1,'tag_id':1}}," WRAP
             LOOKUP("__lumo_pivot.tag_id") JOIN(
                 "$__lumo_pivot") "{'$match':{'$and':[{'n':{'$gt':0}}]}},{'$skip':1},{'$limit':2}," DOCUMENTS
                                  "'collation':{'locale':'en'}," CURSOR);
  FEED(&plan->plan, BATCH_OF(6, "{'p':{'post_id':1,'w':1},'r':{'_id':7,'n':2}}"));
  EXPECT(&plan->plan, "more pt 6");
  FEED(&plan->plan, BATCH("{'p':{'post_id':1,'w':3},'r':{'_id':8,'n':4}}"));
  ROWS(plan, "0:2/1 0:4/3");
}

/* An order of both sides, a filter of both, a projection. */
static void test_paired_by_both(void) {
  setup();
  set_part(&query.sort, &query.sort_len, "{'__lumo_pivot.role':1,'n':-1}");
  set_part(&query.paired_filter, &query.paired_filter_len, "{'$or':[{'n':1},{'__lumo_pivot.role':2}]}");
  set_part(&query.projection, &query.projection_len, "{'n':1}");
  query.all_pivot_fields = true;
  lumo_related_plan *plan = new_plan(1);
  EXPECT(&plan->plan,
         "read pt {'aggregate':'pt','pipeline':[" OWNERS("[1]") NAMES_KEY WRAP LOOKUP("__lumo_pivot.tag_id")
             JOIN("$__lumo_pivot") "{'$match':{'$and':[{'$or':[{'n':1},{'__lumo_pivot.role':2}]}]}},"
                                   "{'$sort':{'__lumo_pivot.role':1,'n':-1}},{'$project':{'n':1,'__lumo_"
                                   "pivot':1}},"
                                   "{'$project':{'_id':0,'p':'$__lumo_pivot','r':'$$ROOT'}},{'$project':{'r._"
                                   "_lumo_pivot':0}}]," CURSOR);
  FEED(&plan->plan, BATCH(""));
  ROWS(plan, "");
}

/* A key that may be a list: its elements are no keys. */
static void test_paired_key(void) {
  setup();
  query.key = "slug";
  query.op = LUMO_RELATED_VALUE;
  query.accumulator = "$sum";
  query.field = "$__lumo_pivot.w";
  query.limit = 3;
  lumo_related_plan *plan = new_plan(1);
  EXPECT(&plan->plan, "read pt {'aggregate':'pt','pipeline':[" OWNERS("[1]") NAMES_KEY
         "{'$sort':{'tag_id':1}}," WRAP
         "{'$lookup':{'from':'tags','localField':'__lumo_pivot.tag_id','foreignField':'slug','as':'r'}},"
         "{'$unwind':'$r'}," JOIN(
             "$__lumo_pivot") "{'$match':{'slug':{'$not':{'$type':'array'}}}},{'$limit':3},"
                              "{'$group':{'_id':null,'n':{'$sum':'$__lumo_pivot.w'}}}]," CURSOR);
  FEED(&plan->plan, BATCH("{'_id':null,'n':6}"));
  EXPECT(&plan->plan, "done");
  CHECK_INT(lumo_reply_count(plan->documents.items[0].data, plan->documents.items[0].len, "n"), 6);
  end_plan(&plan->plan);
}

static void test_paired_writes(void) {
  setup();
  set_part(&query.paired_filter, &query.paired_filter_len, "{'$or':[{'n':1},{'__lumo_pivot.role':2}]}");
  query.op = LUMO_RELATED_COUNT;
  lumo_related_plan *plan = new_plan(1);
  const char *const head =
      "read pt {'aggregate':'pt','pipeline':[" OWNERS("[1]") NAMES_KEY WRAP LOOKUP("__lumo_pivot.tag_id")
          JOIN("$__lumo_pivot") "{'$match':{'$and':[{'$or':[{'n':1},{'__lumo_pivot.role':2}]}]}},";
  char text[1500];
  snprintf(text, sizeof text, "%s{'$count':'n'}],%s", head, CURSOR);
  EXPECT(&plan->plan, text);
  FEED(&plan->plan, BATCH("{'n':4}"));
  EXPECT(&plan->plan, "done");
  CHECK_INT(plan->count, 4);
  end_plan(&plan->plan);
  query.op = LUMO_RELATED_DELETE;
  query.key = "slug";
  set_part(&query.filter, &query.filter_len, "{'n':1}");
  plan = new_plan(1);
  FEED(&plan->plan, BATCH("{'_id':5},{'_id':6},{'_id':5}"));
  EXPECT(&plan->plan, "write! tags D{'_id':{'$in':[5,6]},'$and':[{'n':1}]}");
  FEED(&plan->plan, "{'nRemoved':2}");
  EXPECT(&plan->plan, "done");
  CHECK_INT(plan->count, 2);
  end_plan(&plan->plan);
  plan = new_plan(1);
  FEED(&plan->plan, BATCH(""));
  EXPECT(&plan->plan, "done");
  CHECK_INT(plan->count, 0);
  end_plan(&plan->plan);
}

static void next_is_pause(lumo_related_plan *plan) {
  lumo_step step;
  CHECK(plan->plan.class->next(&plan->plan, &step, &error) && step.kind == LUMO_STEP_PAUSE);
}

/* Only one batch is held at a time. */
static void test_streaming(void) {
  setup();
  query.streaming = true;
  lumo_related_plan *plan = new_plan(1);
  FEED(&plan->plan, BATCH_OF(6, "{'p':{'w':1},'r':{'n':2}},{'p':{'w':3},'r':{'n':4}}"));
  next_is_pause(plan);
  CHECK_INT(plan->row_count, 2);
  EXPECT(&plan->plan, "more pt 6");
  CHECK_INT(plan->row_count, 0);
  FEED(&plan->plan, BATCH_OF(6, ""));
  EXPECT(&plan->plan, "more pt 6");
  FEED(&plan->plan, BATCH("{'p':{'w':5},'r':{'n':6}}"));
  next_is_pause(plan);
  CHECK_INT(plan->row_count, 1);
  CHECK_INT(plan->documents.reply_count, 1);
  ROWS(plan, "");
}

/* ---- pipelines: of many owners ---- */

/* The first rows of each owner, by the related key or a pivot column; $topN needs MongoDB 5.2. */
static void test_top(void) {
  setup();
  set_part(&query.group_sort, &query.group_sort_len, "{'__lumo_pivot.role':-1}");
  set_part(&query.pivot_filter, &query.pivot_filter_len, "{'kind':1}");
  query.limit = 2;
  lumo_related_plan *plan = new_plan(2);
  CHECK(plan->plan.asks_version);
  plan->plan.wire_version = 15;
  EXPECT(&plan->plan,
         "read pt {'aggregate':'pt','pipeline':[" OWNERS(
             "[1,2]") "'$and':[{'kind':1}]," NAMES_KEY
                      "{'$group':{'_id':'$post_id','rows':{'$topN':{'n':2,'sortBy':{'role':-1,'tag_id':1},"
                      "'output':{'post_id':'$post_id','tag_id':'$tag_id'}}}}},{'$unwind':'$rows'},"
                      "{'$replaceRoot':{'newRoot':'$rows'}}]," CURSOR);
  FEED(&plan->plan, BATCH("{'post_id':2,'tag_id':5,'w':1},{'post_id':1,'tag_id':5,'w':2},"
                          "{'post_id':1,'tag_id':4,'w':3}"));
  EXPECT(&plan->plan, "read tags {'find':'tags','filter':{'_id':{'$in':[5,4]}},'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'_id':4,'n':40},{'_id':5,'n':50}"));
  ROWS(plan, "0:50/2 0:40/3 1:50/1");
}

/* An orphan among the first rows: its owner's rows are read whole. The other owners' are not. */
static void test_top_with_orphans(void) {
  setup();
  set_part(&query.group_sort, &query.group_sort_len, "{'__lumo_pivot.tag_id':-1}");
  query.limit = 2;
  lumo_related_plan *plan = new_plan(3);
  plan->plan.wire_version = 17;
  /* Owner 1 has an orphan and may have more rows; owner 2 has one, but no more rows; owner 3 has none. */
  FEED(&plan->plan, BATCH("{'post_id':1,'tag_id':9,'w':1},{'post_id':1,'tag_id':5,'w':2},"
                          "{'post_id':2,'tag_id':9,'w':3},{'post_id':3,'tag_id':5,'w':4},"
                          "{'post_id':3,'tag_id':4,'w':5}"));
  FEED(&plan->plan, BATCH("{'_id':4,'n':40},{'_id':5,'n':50}"));
  EXPECT(&plan->plan, "read pt {'find':'pt','filter':{'post_id':{'$in':[1]}},"
                      "'projection':{'_id':0,'post_id':1,'tag_id':1},'sort':{'tag_id':-1},"
                      "'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'post_id':1,'tag_id':9,'w':6},{'post_id':1,'tag_id':5,'w':7},"
                          "{'post_id':1,'tag_id':3,'w':8},{'post_id':1,'tag_id':2,'w':9}"));
  EXPECT(&plan->plan, "read tags {'find':'tags','filter':{'_id':{'$in':[3,2]}},'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'_id':2,'n':20},{'_id':3,'n':30}"));
  ROWS(plan, "0:50/7 0:30/8 2:50/4 2:40/5");
}

/* Older servers: two finds, cut here. */
static void test_top_before_5_2(void) {
  setup();
  set_part(&query.group_sort, &query.group_sort_len, "{'__lumo_pivot.role':-1}");
  set_part(&query.sort, &query.sort_len, "{'n':1}");
  query.limit = 2;
  lumo_related_plan *plan = new_plan(2);
  plan->plan.wire_version = 14;
  EXPECT(&plan->plan, "read pt {'find':'pt','filter':{'post_id':{'$in':[1,2]}},"
                      "'projection':{'_id':0,'post_id':1,'tag_id':1},'sort':{'role':-1,'tag_id':1},"
                      "'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'post_id':2,'tag_id':5,'w':1},{'post_id':1,'tag_id':5,'w':2},"
                          "{'post_id':1,'tag_id':9,'w':3},{'post_id':1,'tag_id':4,'w':4},"
                          "{'post_id':1,'tag_id':5,'w':5}"));
  EXPECT(&plan->plan,
         "read tags {'find':'tags','filter':{'_id':{'$in':[5,9,4]}},'sort':{'n':1},'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'_id':4,'n':40},{'_id':5,'n':50}"));
  ROWS(plan, "0:40/4 0:50/2 1:50/1");
}

#define GROUPED                                                                                              \
  "{'$group':{'_id':'$tag_id','p':{'$push':'$$ROOT'}}}," LOOKUP("_id") "{'$unwind':'$p'}," JOIN("$p")

/* A filter of both sides: one $lookup per related record, and each travels once, by its _id. */
static void test_ranked(void) {
  setup();
  set_part(&query.paired_filter, &query.paired_filter_len, "{'$or':[{'n':1},{'__lumo_pivot.role':2}]}");
  set_extra("{'hint':'h','collation':{'locale':'en'},'maxTimeMS':5}");
  lumo_related_plan *plan = new_plan(2);
  CHECK(!plan->plan.asks_version);
  EXPECT(&plan->plan, "read pt {'aggregate':'pt','pipeline':[" OWNERS("[1,2]") NAMES_KEY GROUPED
         "{'$match':{'$and':[{'$or':[{'n':1},{'__lumo_pivot.role':2}]}]}},"
         "{'$project':{'_id':0,'p':" PAIRED_ROW ",'k':'$_id'}}],"
         "'collation':{'locale':'en'},'maxTimeMS':5," CURSOR);
  FEED(&plan->plan, BATCH("{'p':{'post_id':2,'tag_id':5,'w':1},'k':'e'},{'p':{'post_id':1,'tag_id':5,'w':2},"
                          "'k':'e'},{'p':{'post_id':3,'tag_id':5,'w':2},'k':'e'}"));
  EXPECT(&plan->plan,
         "read tags {'find':'tags','filter':{'_id':{'$in':['e']}},'maxTimeMS':5,'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'_id':'e','n':50}"));
  ROWS(plan, "0:50/2 1:50/1");
}

/* Cut on the server, with $topN and without, and put in another order. */
static void test_ranked_cut(void) {
  setup();
  set_part(&query.group_sort, &query.group_sort_len, "{'__lumo_pivot.role':-1,'n':1}");
  query.limit = 2;
  query.skip = 1;
  lumo_related_plan *plan = new_plan(2);
  plan->plan.wire_version = 17;
  EXPECT(&plan->plan, "read pt {'aggregate':'pt','pipeline':[" OWNERS("[1,2]") NAMES_KEY GROUPED
         "{'$group':{'_id':'$__lumo_pivot.post_id','rows':{'$topN':{'n':3,"
         "'sortBy':{'__lumo_pivot.role':-1,'n':1,'__lumo_pivot.tag_id':1},"
         "'output':{'p':" PAIRED_ROW ",'k':'$_id'}}}}},"
         "{'$project':{'_id':0,'rows':{'$slice':['$rows',1,2]}}},"
         "{'$unwind':'$rows'},{'$replaceRoot':{'newRoot':'$rows'}}]," CURSOR);
  FEED(&plan->plan, BATCH(""));
  ROWS(plan, "");
  query.skip = 0;
  set_part(&query.sort, &query.sort_len, "{'n':-1,'__lumo_pivot.w':1}");
  plan = new_plan(2);
  EXPECT(&plan->plan, "read pt {'aggregate':'pt','pipeline':[" OWNERS("[1,2]") NAMES_KEY GROUPED
         "{'$sort':{'__lumo_pivot.role':-1,'n':1,'__lumo_pivot.tag_id':1}},"
         "{'$group':{'_id':'$__lumo_pivot.post_id','rows':{'$push':{'p':" PAIRED_ROW
         ",'k':'$_id','s':{'0':'$n','1':'$__lumo_pivot.w'}}}}},"
         "{'$project':{'_id':0,'rows':{'$slice':['$rows',0,2]}}},"
         "{'$unwind':'$rows'},{'$replaceRoot':{'newRoot':'$rows'}},"
         "{'$sort':{'s.0':-1,'s.1':1}},{'$project':{'s':0}}]," CURSOR);
  end_plan(&plan->plan);
}

/* ---- without a pivot ---- */

#define MATCH_OWNERS(list) "{'author_id':{'$in':" list ",'$not':{'$type':'array'}}}"

static void setup_direct(void) {
  setup();
  pivot = (lumo_pivot){0};
  query = (lumo_related_query){
      .collection = "posts", .key = "author_id", .shares_keys = true, .op = LUMO_RELATED_FIND, .eager = true};
}

/* One command, in several batches. A list that holds an owner, another owner and no key at all are none of
 * ours. */
static void test_direct(void) {
  for (int sorted = 0; sorted < 2; sorted++) {
    setup_direct();
    if (sorted) set_part(&query.sort, &query.sort_len, "{'n':1}");
    lumo_related_plan *plan = new_plan(3);
    CHECK(!plan->plan.atomic && !plan->plan.writes);
    EXPECT(&plan->plan,
           sorted ? "read posts {'find':'posts','filter':" MATCH_OWNERS(
                        "[1,2,3]") ",'sort':{'n':1},'batchSize':1000000}"
                  : "read posts {'find':'posts','filter':" MATCH_OWNERS("[1,2,3]") ",'batchSize':1000000}");
    FEED(&plan->plan, BATCH_OF(7, "{'author_id':3,'n':1},{'author_id':1,'n':2},{'author_id':[1,2],'n':3}"));
    EXPECT(&plan->plan, "more posts 7");
    FEED(&plan->plan, BATCH("{'author_id':{'$numberLong':'3'},'n':4},{'author_id':9,'n':5},{'n':6},"
                            "{'author_id':1,'n':7},{'author_id':null,'n':8}"));
    ROWS(plan, "0:2 0:7 2:1 2:4");
  }
  setup_direct();
  ROWS(new_plan(0), "");
}

/* The other way round the key is the related record's own, and several may ask for one. */
static void test_direct_by_id(void) {
  setup_direct();
  query.key = "_id";
  set_part(&query.filter, &query.filter_len, "{'$or':[{'n':1},{'n':2}]}");
  set_part(&query.projection, &query.projection_len, "{'n':1}");
  set_extra("{'hint':'h','collation':{'locale':'en'},'maxTimeMS':5}");
  lumo_related_plan *plan = new_plan(2);
  setup(); /* frees all that the plan was made from */
  EXPECT(&plan->plan,
         "read posts {'find':'posts','filter':{'_id':{'$in':[1,2]},'$and':[{'$or':[{'n':1},{'n':2}]}]},"
         "'projection':{'n':1},'hint':'h','collation':{'locale':'en'},'maxTimeMS':5,"
         "'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'_id':2,'n':20}"));
  ROWS(plan, "1:20");
}

/* A limit is each owner's, and made here; without an order it goes by the _id. */
static void test_direct_limit(void) {
  setup_direct();
  query.limit = 2;
  query.skip = 1;
  lumo_related_plan *plan = new_plan(2);
  EXPECT(&plan->plan, "read posts {'find':'posts','filter':" MATCH_OWNERS("[1,2]") ",'sort':{'_id':1},"
                                                                                   "'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'author_id':1,'n':1},{'author_id':2,'n':2},{'author_id':1,'n':3},"
                          "{'author_id':1,'n':4},{'author_id':1,'n':5}"));
  ROWS(plan, "0:3 0:4");
  set_part(&query.sort, &query.sort_len, "{'n':-1}");
  query.skip = 0;
  query.limit = 1;
  plan = new_plan(2);
  EXPECT(&plan->plan, "read posts {'find':'posts','filter':" MATCH_OWNERS("[1,2]") ",'sort':{'n':-1},"
                                                                                   "'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'author_id':1,'n':9},{'author_id':2,'n':8},{'author_id':2,'n':7}"));
  ROWS(plan, "0:9 1:8");
}

/* A limit that counts by another order than that of the result is the server's. */
static void test_direct_window(void) {
  setup_direct();
  query.limit = 2;
  query.skip = 1;
  set_part(&query.sort, &query.sort_len, "{'title':1}");
  set_part(&query.group_sort, &query.group_sort_len, "{'n':-1}");
  set_extra("{'hint':'h','maxTimeMS':5}");
  lumo_related_plan *plan = new_plan(2);
  EXPECT(&plan->plan,
         "read posts {'aggregate':'posts','pipeline':[{'$match':" MATCH_OWNERS(
             "[1,2]") "},{'$setWindowFields':{'partitionBy':'$author_id','sortBy':{'n':-1},"
                      "'output':{'lumo:n':{'$documentNumber':{}}}}},{'$match':{'lumo:n':{'$gt':1,'$lte':3}}},"
                      "{'$sort':{'title':1}},{'$project':{'lumo:n':0}}],'maxTimeMS':5," CURSOR);
  FEED(&plan->plan, BATCH("{'author_id':2,'n':1},{'author_id':1,'n':2},{'author_id':1,'n':3}"));
  ROWS(plan, "0:2 0:3 1:1");
}

/* A filter that waits for joins is asked behind them; what they have found goes away. */
static void test_direct_joined(void) {
  setup_direct();
  query.join_count = 2;
  set_part(&query.joins, &query.joins_len, "{'$lookup':{'as':'lumo:0'}}");
  set_part(&query.filter, &query.filter_len, "{'n':{'$gt':0}}");
  set_part(&query.paired_filter, &query.paired_filter_len,
           "{'$and':[{'n':{'$gt':0}},{'lumo:0.n':{'$gte':1}}]}");
  lumo_related_plan *plan = new_plan(2);
  CHECK_INT(plan->plan.least_version, LUMO_WIRE_JOINS);
#define JOINED                                                                                               \
  "read posts "                                                                                              \
  "{'aggregate':'posts','pipeline':[{'$match':{'author_id':{'$in':[1,2],'$not':{'$type':'array'}},"          \
  "'$and':[{'n':{'$gt':0}}]}},{'$lookup':{'as':'lumo:0'}},"                                                  \
  "{'$match':{'$and':[{'n':{'$gt':0}},{'lumo:0.n':{'$gte':1}}]}},"
  EXPECT(&plan->plan, JOINED "{'$project':{'lumo:n':0,'lumo:0':0,'lumo:1':0}}]," CURSOR);
  FEED(&plan->plan, BATCH("{'author_id':2,'n':1}"));
  ROWS(plan, "1:1");
  query.limit = 1;
  set_part(&query.projection, &query.projection_len, "{'author_id':1,'n':1}");
  plan = new_plan(2);
  EXPECT(&plan->plan, JOINED "{'$sort':{'_id':1}},{'$project':{'author_id':1,'n':1}}]," CURSOR);
  FEED(&plan->plan, BATCH("{'author_id':2,'n':1},{'author_id':2,'n':2}"));
  ROWS(plan, "1:1");
#undef JOINED
}

/* An owner's documents are all of one portion, so an order is theirs whatever the number of commands. */
static void test_direct_portions(void) {
  setup_direct();
  set_part(&query.sort, &query.sort_len, "{'n':1}");
  query.limit = 1;
  lumo_related_plan *plan = new_plan(100001);
  check_list(plan, "posts", "filter.author_id.$in", 100000);
  FEED(&plan->plan, BATCH("{'author_id':2,'n':2},{'author_id':2,'n':3}"));
  EXPECT(&plan->plan, "read posts {'find':'posts','filter':" MATCH_OWNERS("[100001]") ",'sort':{'n':1},"
                                                                                      "'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'author_id':100001,'n':1},{'author_id':100001,'n':4}"));
  ROWS(plan, "1:2 100000:1");
}

static void test_direct_restart(void) {
  setup_direct();
  lumo_related_plan *plan = new_plan(2);
  lumo_plan *base = &plan->plan;
  const char *find = "read posts {'find':'posts','filter':" MATCH_OWNERS("[1,2]") ",'batchSize':1000000}";
  EXPECT(base, find);
  FEED(base, BATCH_OF(4, "{'author_id':1,'n':1}"));
  EXPECT(base, "more posts 4");
  restart_plan(base);
  EXPECT(base, find);
  FEED(base, BATCH("{'author_id':1,'n':1}"));
  EXPECT(base, "done");
  CHECK_INT(plan->row_count, 1);
  restart_plan(base);
  CHECK_INT(plan->row_count, 0);
  EXPECT(base, find);
  FEED(base, BATCH("{'author_id':2,'n':2}"));
  ROWS(plan, "1:2");
}

/* ---- rows of several collections ---- */

#define MADE                                                                                                 \
  "read countries {'aggregate':'countries','pipeline':[{'$match':{'planet':{'$in':[1,2]}}},"                 \
  "{'$project':{'_id':'$code','owner':'$planet'}}," IS_KEY ","                                               \
  "{'$lookup':{'from':'authors','localField':'_id','foreignField':'country','as':'d'}},{'$unwind':'$d'},"    \
  "{'$match':{'d.country':{'$not':{'$type':'array'}}}},{'$project':{'_id':'$d._id','owner':'$owner'}}"       \
  "," IS_KEY
#define IS_KEY "{'$match':{'_id':{'$ne':null,'$not':{'$type':['regex','array']}}}}"

/* Planets have countries, which have authors, whose books are asked for. */
static void setup_made(void) {
  static const lumo_hop hops[] = {
      {.collection = "countries", .from = "_id", .to = "planet"},
      {.collection = "authors", .from = "code", .to = "country"},
      {.collection = "books", .from = "_id", .to = "author"},
  };
  setup();
  lumo_buf *stages = &documents[document_count++];
  lumo_pivot_stages(stages, hops, 3);
  CHECK(!stages->failed);
  pivot = (lumo_pivot){.collection = "countries",
                       .owner_key = LUMO_MADE_OWNER,
                       .related_key = LUMO_MADE_RELATED,
                       .source_key = "planet",
                       .stages = stages->data,
                       .stages_len = (uint32_t)stages->len};
  query = (lumo_related_query){
      .collection = "books", .key = "author", .shares_keys = true, .op = LUMO_RELATED_FIND};
}

static void test_made_rows(void) {
  setup_made();
  lumo_related_plan *plan = new_plan(2);
  EXPECT(&plan->plan, MADE "]," CURSOR);
  FEED(&plan->plan, BATCH("{'owner':2,'_id':7,'w':1},{'owner':1,'_id':7,'w':2},{'owner':1,'_id':8,'w':3}"));
  EXPECT(&plan->plan, "read books {'find':'books','filter':{'author':{'$in':[7,8],'$not':{'$type':'array'}}},"
                      "'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'author':7,'n':1},{'author':7,'n':2},{'author':8,'n':3}"));
  ROWS(plan, "0:1/2 0:2/2 0:3/3 1:1/1 1:2/1");
}

/* Where the server joins, the rows are made first. */
static void test_made_rows_ranked(void) {
  setup_made();
  set_part(&query.paired_filter, &query.paired_filter_len, "{'n':1}");
  lumo_related_plan *plan = new_plan(2);
  EXPECT(&plan->plan, MADE
         ",{'$group':{'_id':'$_id','p':{'$push':'$$ROOT'}}},"
         "{'$lookup':{'from':'books','localField':'_id','foreignField':'author','as':'r'}},{'$unwind':'$r'},"
         "{'$unwind':'$p'}," JOIN("$p") "{'$match':{'author':{'$not':{'$type':'array'}},'$and':[{'n':1}]}},"
                                        "{'$project':{'_id':0,'p':{'owner':'$__lumo_pivot.owner','_id':'$__"
                                        "lumo_pivot._id'},'k':'$_id'}}]," CURSOR);
  end_plan(&plan->plan);
}

/* ---- through a collection whose documents are no pairs ---- */

/* Its keys may be its _id, and one field may be both. */
static void test_through_keys(void) {
  static const char *const cases[][3] = {{"_id", "_id", "'_id':1"},
                                         {"_id", "boss", "'_id':1,'boss':1"},
                                         {"boss", "_id", "'boss':1,'_id':1"},
                                         {"code", "code", "'_id':0,'code':1"}};
  for (int i = 0; i < 4; i++) {
    char expected[256];
    setup();
    pivot = (lumo_pivot){.collection = "users", .owner_key = cases[i][0], .related_key = cases[i][1]};
    query.key = "user_id";
    query.shares_keys = true;
    lumo_related_plan *plan = new_plan(2);
    snprintf(expected, sizeof expected,
             "read users {'find':'users','filter':{'%s':{'$in':[1,2]}},'projection':{%s},"
             "'batchSize':1000000}",
             cases[i][0], cases[i][2]);
    EXPECT(&plan->plan, expected);
    end_plan(&plan->plan);
  }
}

/* A limit goes by the _id, and so does the order between equals: many related records share a key. */
static void test_through_limit(void) {
  setup();
  pivot = (lumo_pivot){.collection = "users", .owner_key = "country_id", .related_key = "_id"};
  query.key = "user_id";
  query.shares_keys = true;
  query.limit = 2;
  lumo_related_plan *plan = new_plan(1);
  EXPECT(&plan->plan, "read users {'find':'users','filter':{'country_id':{'$in':[1]}},"
                      "'projection':{'country_id':1,'_id':1},'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'country_id':1,'_id':7}"));
  EXPECT(&plan->plan, "read tags {'find':'tags','filter':{'user_id':{'$in':[7],'$not':{'$type':'array'}}},"
                      "'sort':{'_id':1},'limit':2,'batchSize':1000000}");
  FEED(&plan->plan, BATCH("{'user_id':7,'n':1},{'user_id':7,'n':2}"));
  ROWS(plan, "0:1/0 0:2/0");
  query.streaming = true;
  set_part(&query.sort, &query.sort_len, "{'n':-1}");
  plan = new_plan(1);
  EXPECT(&plan->plan,
         "read users {'aggregate':'users','pipeline':[{'$match':{'country_id':{'$in':[1]},"
         "'_id':{'$ne':null,'$not':{'$type':['regex','array']}}}},{'$project':{'_id':0,'__lumo_pivot':'$$"
         "ROOT'}},"
         "{'$lookup':{'from':'tags','localField':'__lumo_pivot._id','foreignField':'user_id','as':'r'}},"
         "{'$unwind':'$r'}," JOIN(
             "$__lumo_pivot") "{'$match':{'user_id':{'$not':{'$type':'array'}}}},"
                              "{'$sort':{'n':-1,'_id':1}},{'$limit':2},"
                              "{'$project':{'_id':0,'p':{'country_id':'$__lumo_pivot.country_id',"
                              "'_id':'$__lumo_pivot._id'},'r':'$$ROOT'}},"
                              "{'$project':{'r.__lumo_pivot':0}}],'allowDiskUse':true,"
                              "'cursor':{'batchSize':1000}}");
  end_plan(&plan->plan);
}

/* ---- replies that are not what they should be, and memory ---- */

static void test_malformed_replies(void) {
  static const char *const wrong[] = {"{}", "{'cursor':{}}", BATCH("1"),
                                      "{'cursor':{'id':0,'firstBatch':[]}}"};
  for (int i = 0; i < 4; i++) {
    setup();
    lumo_related_plan *plan = new_plan(1);
    CHECK(!feed_json(&plan->plan, wrong[i], false, &error));
    CHECK(error.code && strcmp(error.code, "E_SERVER") == 0);
    end_plan(&plan->plan);
  }
}

/* A pipeline's documents are looked into. */
static void test_malformed_joins(void) {
  static const char *const wrong[] = {BATCH("{'p':1,'r':{}}"), BATCH("{'p':{}}"), BATCH("{'p':{},'r':[]}")};
  for (int many = 0; many < 2; many++)
    for (int i = 0; i < 3 - many; i++) {
      setup();
      set_part(&query.paired_filter, &query.paired_filter_len, "{'n':1}");
      lumo_related_plan *plan = new_plan(many ? 2 : 1);
      CHECK(!feed_json(&plan->plan, wrong[i], false, &error));
      CHECK(error.code && strcmp(error.code, "E_SERVER") == 0);
      end_plan(&plan->plan);
    }
}

static lumo_plan *make_plan(lumo_error *failure) {
  lumo_keys owners = {0};
  lumo_related_plan *plan = NULL;
  uint32_t index;
  bool fine = true;
  for (uint8_t i = 1; i <= 9 && fine; i++) {
    uint8_t bytes[4] = {i};
    lumo_value owner = {bytes, sizeof bytes, LUMO_BSON_INT32};
    fine = lumo_keys_add(&owners, &owner, &index) >= 0;
  }
  if (fine)
    plan = lumo_related_plan_new("load", &pivot, &owners, &query, failure);
  else
    lumo_error_memory(failure);
  lumo_keys_free(&owners);
  if (plan) plan->plan.wire_version = 17;
  return plan ? &plan->plan : NULL;
}

static void test_memory(void) {
  static const char pivots[] =
      BATCH("{'post_id':1,'tag_id':1},{'post_id':2,'tag_id':1},{'post_id':2,'tag_id':3}");
  setup();
  check_memory(make_plan, (const char *const[]){BATCH_OF(3, "{'post_id':3,'tag_id':5}"), pivots,
                                                BATCH_OF(4, "{'_id':1}"), BATCH("{'_id':3}"), NULL});
  query.op = LUMO_RELATED_COUNT;
  check_memory(make_plan, (const char *const[]){pivots, BATCH("{'n':1}"), NULL});
  query.op = LUMO_RELATED_DELETE;
  check_memory(make_plan, (const char *const[]){pivots, "{'nRemoved':1}", NULL});
  setup();
  query.eager = true;
  query.limit = 1;
  set_part(&query.group_sort, &query.group_sort_len, "{'__lumo_pivot.w':1}");
  check_memory(make_plan,
               (const char *const[]){pivots, BATCH("{'_id':3}"), pivots, BATCH("{'_id':1}"), NULL});
  set_part(&query.paired_filter, &query.paired_filter_len, "{'n':1}");
  check_memory(make_plan, (const char *const[]){BATCH("{'p':{'post_id':1,'tag_id':1},'k':1}"),
                                                BATCH("{'_id':1}"), NULL});
  query.eager = false;
  check_memory(make_plan, (const char *const[]){BATCH("{'p':{'post_id':1,'tag_id':1},'r':{'_id':1}}"), NULL});
  setup_made();
  query.limit = 1;
  check_memory(make_plan, (const char *const[]){BATCH("{'owner':1,'_id':7}"), BATCH("{'author':7}"), NULL});
  setup_direct();
  query.limit = 1;
  check_memory(make_plan,
               (const char *const[]){BATCH_OF(3, "{'author_id':1,'n':1}"), BATCH("{'author_id':2}"), NULL});
  set_part(&query.sort, &query.sort_len, "{'title':1}");
  set_part(&query.group_sort, &query.group_sort_len, "{'n':-1}");
  set_part(&query.joins, &query.joins_len, "{'$lookup':{'as':'lumo:0'}}");
  set_part(&query.paired_filter, &query.paired_filter_len, "{'lumo:0.n':{'$gte':1}}");
  query.join_count = 1;
  check_memory(make_plan, (const char *const[]){BATCH("{'author_id':1}"), NULL});
}

int main(void) {
  test_one_owner();
  test_no_rows();
  test_conditions();
  test_limit();
  test_limit_of_a_bag();
  test_many_owners();
  test_shared_key();
  test_restart();
  test_count();
  test_bulk();
  test_portions();
  test_ordered_large();
  test_ordered_portions();
  test_paired_by_pivot();
  test_paired_by_both();
  test_paired_key();
  test_paired_writes();
  test_streaming();
  test_top();
  test_top_with_orphans();
  test_top_before_5_2();
  test_ranked();
  test_ranked_cut();
  test_direct();
  test_direct_by_id();
  test_direct_limit();
  test_direct_window();
  test_direct_joined();
  test_direct_portions();
  test_direct_restart();
  test_made_rows();
  test_made_rows_ranked();
  test_through_keys();
  test_through_limit();
  test_malformed_replies();
  test_malformed_joins();
  test_memory();
  setup();
  return check_report();
}
