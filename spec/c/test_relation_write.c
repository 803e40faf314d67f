/* What changes pairs: which commands each operation sends, and what it makes of the replies. */
#include "core/relation_write.h"
#include "plan_script.h"

/* The derived ids of post 1 and tag n (see test_keys.c for where such come from). */
#define D1 "{'$oid':'3b5aeae65130adaa5a5b6ca5'}"
#define D2 "{'$oid':'c9e28eceb2266bb3a59d0e3b'}"
#define D3 "{'$oid':'68fd052735bff5315575da4c'}"
#define D4 "{'$oid':'bd222b9cf8fe34db5daf2174'}"
#define GENERATED "{'$oid':'?'}"
#define NOW "{'$date':'1970-01-01T00:00:01Z'}"
#define ID(n) "{'$oid':'00000000000000000000000" #n "'}"
#define FIND(filter, projection)                                                                             \
  "read pt {'find':'pt','filter':{" filter "},'projection':{" projection "},'batchSize':1000000}"
/* The merge of attributes: only what differs is written. `changed` is the object of the fields, behind which
 * updated_at may follow. */
#define DIFFERS(name) "{'$ne':['$" name "','$$given." name "']}"
#define CHANGED(name) "'" name "':{'$cond':[" DIFFERS(name) ",'$$given." name "','$" name "']}"
#define MERGE(differs, changed)                                                                              \
  "{'$cond':[{'$or':[" differs "]},{'$mergeObjects':['$$ROOT'," changed "]},'$$ROOT']}"
#define PIPELINE(set, in) "[{'$replaceWith':{'$let':{'vars':{'given':{'$literal':{" set "}}},'in':" in "}}}]"
#define UPSERT(fresh, merge)                                                                                 \
  "{'$cond':[{'$eq':[{'$type':'$_id'},'missing']},"                                                          \
  "{'$mergeObjects':[{'$literal':{'_id':" D2 "}},'$$ROOT','$$given',{'$literal':{" fresh "}}]}," merge "]}"
#define MOVED "{'$literal':{'updated_at':" NOW "}}"
#define DUPLICATE(index, key)                                                                                \
  "{'index':" #index ",'code':11000,'errmsg':'E11000','keyPattern':{" key "},'keyValue':{'a':1}}"

static lumo_pivot pivot; /* what the next plan is made for; reset by setup */
static lumo_buf condition;
static lumo_error error;

static void setup(void) {
  lumo_buf_free(&condition);
  lumo_error_reset(&error);
  pivot = (lumo_pivot){.collection = "pt", .owner_key = "post_id", .related_key = "tag_id", .atomic = true};
}

static void use_timestamps(void) {
  pivot.created_at = "created_at";
  pivot.updated_at = "updated_at";
}

static void use_condition(void) {
  condition = from_json("{'kind':'x'}");
  pivot.condition = condition.data;
  pivot.condition_len = (uint32_t)condition.len;
}

/* Ids as the objects {'v': id, 'set': …, 'fresh': …} of {'ids': […]}. */
static bool make_pairs(lumo_pairs *pairs, const lumo_buf *document, lumo_error *failure) {
  lumo_value ids, id, set, fresh;
  lumo_iter it;
  lumo_bson_find(document->data, document->len, "ids", 3, &ids);
  lumo_iter_value(&it, &ids);
  while (lumo_iter_next(&it)) {
    lumo_bson_find(it.value.data, it.value.len, "v", 1, &id);
    lumo_bson_find(it.value.data, it.value.len, "set", 3, &set);
    lumo_bson_find(it.value.data, it.value.len, "fresh", 5, &fresh);
    if (!lumo_pairs_add(pairs, &id, set.data, set.len, fresh.data, fresh.len, failure)) return false;
  }
  return true;
}

static lumo_pairs_plan *new_plan(lumo_pairs_op op, const char *ids) {
  lumo_buf document = from_json(ids), one = from_json("{'v':1}");
  lumo_value owner = value_of(&one);
  lumo_pairs pairs = {0};
  CHECK(make_pairs(&pairs, &document, &error));
  lumo_pairs_plan *plan = lumo_pairs_plan_new(op, "test", &pivot, &owner, &pairs, 1000, &error);
  CHECK(plan != NULL);
  CHECK_INT(pairs.keys.count, 0);
  lumo_buf_free(&document);
  lumo_buf_free(&one);
  return plan;
}

#define FATES(plan, expected) check_fates((plan), (expected), __LINE__)
/* Fates as letters: u(nchanged) a(ttached) U(pdated) d(etached). Frees the plan. */
static void check_fates(lumo_pairs_plan *plan, const char *expected, int line) {
  lumo_buf out = {0};
  EXPECT(&plan->plan, "done");
  for (uint32_t i = 0; i < plan->pairs.keys.count; i++) lumo_buf_append(&out, &"uaUd"[plan->fates[i]], 1);
  check_script(&out, expected, __FILE__, line);
  end_plan(&plan->plan);
}

/* The reply is refused with this code. Frees the plan. */
static void check_refused(lumo_pairs_plan *plan, const char *reply, bool dead, const char *code) {
  CHECK(!feed_json(&plan->plan, reply, dead, &error));
  CHECK(error.code && strcmp(error.code, code) == 0);
  end_plan(&plan->plan);
}

/* ---- attach of one ---- */

static void test_attach_one(void) {
  setup();
  lumo_pairs_plan *plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':2}]}");
  CHECK(!plan->plan.atomic && plan->plan.writes);
  CHECK(strcmp(plan->plan.name, "test") == 0);
  EXPECT(&plan->plan, "write? pt p{'post_id':{'$eq':1},'tag_id':{'$eq':2}},{'$setOnInsert':{'_id':" D2 "}}");
  FEED(&plan->plan, "{'nMatched':0,'nModified':0,'nUpserted':1,'upserted':[{'index':0,'_id':1}]}");
  FATES(plan, "a");
  plan = new_plan(LUMO_SYNC_WITHOUT_DETACHING, "{'ids':[{'v':2,'set':{'w':1},'fresh':{'f':1,'w':2}}]}");
  CHECK(!plan->plan.atomic);
  EXPECT(&plan->plan, "write? pt p{'post_id':{'$eq':1},'tag_id':{'$eq':2}}," PIPELINE(
                          "'w':1", UPSERT("'f':1", MERGE(DIFFERS("w"), "{" CHANGED("w") "}"))));
  FEED(&plan->plan, "{'nMatched':1,'nModified':1,'nUpserted':0}");
  FATES(plan, "U");
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':2,'set':{'w':1}}]}");
  EXPECT(&plan->plan, "write? pt p{'post_id':{'$eq':1},'tag_id':{'$eq':2}}," PIPELINE(
                          "'w':1", UPSERT("", MERGE(DIFFERS("w"), "{" CHANGED("w") "}"))));
  FEED(&plan->plan, "{'nMatched':1,'nModified':0,'nUpserted':0}");
  FATES(plan, "u");
}

static void test_attach_one_timestamps(void) {
  setup();
  use_timestamps();
  lumo_pairs_plan *plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':2,'fresh':{'created_at':5}}]}");
  EXPECT(&plan->plan, "write? pt p{'post_id':{'$eq':1},'tag_id':{'$eq':2}},"
                      "{'$setOnInsert':{'_id':" D2 ",'created_at':5,'updated_at':" NOW "}}");
  FEED(&plan->plan, "{'nUpserted':1,'upserted':[{'index':0,'_id':1}]}");
  FATES(plan, "a");
  /* The caller's own updated_at wins, and moves as any attribute does. */
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':2,'set':{'updated_at':7}}]}");
  EXPECT(&plan->plan,
         "write? pt p{'post_id':{'$eq':1},'tag_id':{'$eq':2}}," PIPELINE(
             "'updated_at':7",
             UPSERT("'created_at':" NOW, MERGE(DIFFERS("updated_at"), "{" CHANGED("updated_at") "}"))));
  FEED(&plan->plan, "{'nUpserted':1,'upserted':[{'index':0,'_id':1}]}");
  FATES(plan, "a");
  /* Attributes and updated_at: only a pipeline can tell whether it has to move. */
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':2,'set':{'w':'$x','n':null},'fresh':{'f':'$y'}}]}");
  EXPECT(&plan->plan, "write? pt p{'post_id':{'$eq':1},'tag_id':{'$eq':2}}," PIPELINE(
                          "'w':'$x','n':null", UPSERT("'f':'$y','created_at':" NOW ",'updated_at':" NOW,
                                                      MERGE(DIFFERS("w") "," DIFFERS("n"),
                                                            "{" CHANGED("w") "," CHANGED("n") "}," MOVED))));
  FEED(&plan->plan, "{'nMatched':1,'nModified':1}");
  FATES(plan, "U");
}

#define LOOK_2                                                                                               \
  FIND("'$or':[{'post_id':{'$eq':1},'tag_id':{'$in':[2]}},{'_id':{'$in':[" D2 "]}}]",                        \
       "'_id':1,'post_id':1,'tag_id':1")

/* The upsert loses against a row that it has not seen. */
static void test_attach_one_collision(void) {
  setup();
  lumo_pairs_plan *plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':2}]}");
  EXPECT(&plan->plan, "write? pt p{'post_id':{'$eq':1},'tag_id':{'$eq':2}},{'$setOnInsert':{'_id':" D2 "}}");
  FEED(&plan->plan, "{'nUpserted':0,'writeErrors':[" DUPLICATE(0, "'_id':1") "]}");
  EXPECT(&plan->plan, LOOK_2);
  FEED(&plan->plan, BATCH("{'_id':" D2 ",'post_id':1,'tag_id':2}"));
  FATES(plan, "u");
  /* Another pair has the derived id. */
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':2}]}");
  FEED(&plan->plan, "{'writeErrors':[" DUPLICATE(0, "'_id':1") "]}");
  EXPECT(&plan->plan, LOOK_2);
  FEED(&plan->plan, BATCH("{'_id':" D2 ",'post_id':1,'tag_id':9}"));
  EXPECT(&plan->plan, "write? pt i{'_id':" GENERATED ",'post_id':1,'tag_id':2}");
  FEED(&plan->plan, "{'nInserted':1}");
  FATES(plan, "a");
  /* Another post's pair has it. */
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':2}]}");
  FEED(&plan->plan, "{'writeErrors':[" DUPLICATE(0, "'_id':1") "]}");
  EXPECT(&plan->plan, LOOK_2);
  FEED(&plan->plan, BATCH("{'_id':" D2 ",'post_id':7,'tag_id':2}"));
  EXPECT(&plan->plan, "write? pt i{'_id':" GENERATED ",'post_id':1,'tag_id':2}");
  FEED(&plan->plan, "{'nInserted':1}");
  FATES(plan, "a");
  /* Whoever had it is gone again: the derived id stays the one, or two writers could insert the pair twice.
   */
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':2}]}");
  FEED(&plan->plan, "{'writeErrors':[" DUPLICATE(0, "'_id':1") "]}");
  EXPECT(&plan->plan, LOOK_2);
  FEED(&plan->plan, BATCH(""));
  EXPECT(&plan->plan, "write? pt i{'_id':" D2 ",'post_id':1,'tag_id':2}");
  FEED(&plan->plan, "{'nInserted':1}");
  FATES(plan, "a");
}

/* The row that won has other attributes: they are merged. */
static void test_attach_one_collision_attributes(void) {
  setup();
  use_timestamps();
  lumo_pairs_plan *plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':2,'set':{'w':1}}]}");
  FEED(&plan->plan, "{'writeErrors':[" DUPLICATE(0, "'post_id':1,'tag_id':1") "]}");
  EXPECT(&plan->plan, FIND("'$or':[{'post_id':{'$eq':1},'tag_id':{'$in':[2]}},{'_id':{'$in':[" D2 "]}}]",
                           "'_id':1,'post_id':1,'tag_id':1,'w':1"));
  FEED(&plan->plan, BATCH("{'_id':" ID(5) ",'post_id':1,'tag_id':2,'w':3}"));
  EXPECT(&plan->plan, "write pt u{'_id':{'$eq':" ID(5) "}},{'$set':{'w':1,'updated_at':" NOW "}}");
  FEED(&plan->plan, "{'nMatched':1,'nModified':1}");
  FATES(plan, "U");
}

/* ---- attach of many ---- */

static void test_attach_many(void) {
  setup();
  lumo_pairs_plan *plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':3},{'v':1},{'v':2}]}");
  CHECK(!plan->plan.atomic);
  EXPECT(&plan->plan, FIND("'post_id':{'$eq':1},'tag_id':{'$in':[3,1,2]}", "'_id':0,'tag_id':1"));
  /* In two batches; a number of another type, a null, a row that nobody asked for. */
  FEED(&plan->plan, BATCH_OF(77, "{'tag_id':{'$numberDouble':'1.0'}},{'tag_id':null}"));
  EXPECT(&plan->plan, "more pt 77");
  FEED(&plan->plan, BATCH("{'tag_id':8},{}"));
  EXPECT(&plan->plan,
         "write? pt i{'_id':" D3 ",'post_id':1,'tag_id':3} i{'_id':" D2 ",'post_id':1,'tag_id':2}");
  FEED(&plan->plan, "{'nInserted':2}");
  CHECK_INT(plan->detached.count, 0);
  FATES(plan, "aua");
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1},{'v':2}]}");
  EXPECT(&plan->plan, FIND("'post_id':{'$eq':1},'tag_id':{'$in':[1,2]}", "'_id':0,'tag_id':1"));
  FEED(&plan->plan, BATCH("{'tag_id':2},{'tag_id':1}"));
  FATES(plan, "uu");
  FATES(new_plan(LUMO_ATTACH, "{'ids':[]}"), "");
}

static void test_attach_many_attributes(void) {
  setup();
  use_timestamps();
  lumo_pairs_plan *plan = new_plan(
      LUMO_ATTACH, "{'ids':[{'v':1,'set':{'w':1,'x':null}},{'v':2,'set':{'w':2},'fresh':{'f':0}},{'v':3},"
                   "{'v':4,'set':{'w':{'$numberDouble':'4.0'}}}]}");
  CHECK(plan->plan.atomic);
  EXPECT(&plan->plan,
         FIND("'post_id':{'$eq':1},'tag_id':{'$in':[1,2,3,4]}", "'_id':1,'tag_id':1,'w':1,'x':1"));
  /* A missing x differs from null, 4 does not differ from 4.0; rows that others have written twice are both
   * merged. */
  FEED(&plan->plan, BATCH("{'_id':" ID(1) ",'tag_id':1,'w':1},{'_id':" ID(
                        2) ",'tag_id':1,'w':5,'x':null},"
                           "{'_id':" ID(3) ",'tag_id':3,'w':9},{'_id':" ID(4) ",'tag_id':4,'w':4}"));
  EXPECT(&plan->plan, "write? pt i{'_id':" D2 ",'post_id':1,'tag_id':2,'w':2,'f':0,'created_at':" NOW
                      ",'updated_at':" NOW "}");
  FEED(&plan->plan, "{'nInserted':1}");
  EXPECT(&plan->plan,
         "write pt u{'_id':{'$eq':" ID(1) "}},{'$set':{'x':null,'updated_at':" NOW "}}"
                                          " u{'_id':{'$eq':" ID(2) "}},{'$set':{'w':1,'updated_at':" NOW
                                                                   "}}");
  FEED(&plan->plan, "{'nMatched':2,'nModified':2}");
  FATES(plan, "Uauu");
}

/* Concurrent writers were first with some of the rows. */
static void test_attach_many_collision(void) {
  setup();
  pivot.atomic = false;
  lumo_pairs_plan *plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1},{'v':2,'set':{'w':2}},{'v':3},{'v':4}]}");
  CHECK(!plan->plan.atomic);
  FEED(&plan->plan, BATCH("{'_id':" ID(1) ",'tag_id':1}"));
  EXPECT(&plan->plan, "write? pt i{'_id':" D2 ",'post_id':1,'tag_id':2,'w':2}"
                      " i{'_id':" D3 ",'post_id':1,'tag_id':3} i{'_id':" D4 ",'post_id':1,'tag_id':4}");
  FEED(&plan->plan, "{'nInserted':1,'writeErrors':[" DUPLICATE(0, "'_id':1") "," DUPLICATE(
                        2, "'tag_id':1,'post_id':1") "]}");
  EXPECT(&plan->plan,
         FIND("'$or':[{'post_id':{'$eq':1},'tag_id':{'$in':[2,4]}},{'_id':{'$in':[" D2 "," D4 "]}}]",
              "'_id':1,'post_id':1,'tag_id':1,'w':1"));
  FEED(&plan->plan,
       BATCH("{'_id':" D2 ",'post_id':1,'tag_id':2,'w':1},{'_id':" D4 ",'post_id':5,'tag_id':5}"));
  EXPECT(&plan->plan, "write? pt i{'_id':" GENERATED ",'post_id':1,'tag_id':4}");
  FEED(&plan->plan, "{'nInserted':1}");
  EXPECT(&plan->plan, "write pt u{'_id':{'$eq':" D2 "}},{'$set':{'w':2}}");
  FEED(&plan->plan, "{'nModified':1}");
  FATES(plan, "uUaa");
}

/* In a transaction the first duplicate ends it. All over again, and this time it is known whom to look for.
 */
static void test_attach_dead_transaction(void) {
  setup();
  lumo_pairs_plan *plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1,'set':{'w':1}},{'v':2},{'v':3}]}");
  lumo_plan *base = &plan->plan;
  CHECK(base->atomic);
  FEED(base, BATCH("{'_id':" ID(1) ",'tag_id':1,'w':0}"));
  EXPECT(base, "write? pt i{'_id':" D2 ",'post_id':1,'tag_id':2} i{'_id':" D3 ",'post_id':1,'tag_id':3}");
  CHECK(feed_json(base, "{'nInserted':0,'writeErrors':[" DUPLICATE(0, "'_id':1") "]}", true, &error));
  restart_plan(base);
  EXPECT(base, FIND("'post_id':{'$eq':1},'tag_id':{'$in':[1,2,3]}", "'_id':1,'tag_id':1,'w':1"));
  FEED(base, BATCH("{'_id':" ID(1) ",'tag_id':1,'w':0}"));
  EXPECT(base, FIND("'$or':[{'post_id':{'$eq':1},'tag_id':{'$in':[2,3]}},{'_id':{'$in':[" D2 "," D3 "]}}]",
                    "'_id':1,'post_id':1,'tag_id':1,'w':1"));
  FEED(base, BATCH("{'_id':" D2 ",'post_id':1,'tag_id':9}"));
  EXPECT(base,
         "write? pt i{'_id':" GENERATED ",'post_id':1,'tag_id':2} i{'_id':" D3 ",'post_id':1,'tag_id':3}");
  FEED(base, "{'nInserted':2}");
  EXPECT(base, "write pt u{'_id':{'$eq':" ID(1) "}},{'$set':{'w':1}}");
  FEED(base, "{'nModified':1}");
  FATES(plan, "Uaa");
}

/* A restart after an ordinary transient error forgets everything. */
static void test_restart(void) {
  setup();
  lumo_pairs_plan *plan = new_plan(LUMO_SYNC, "{'ids':[{'v':1,'set':{'w':1}},{'v':2}]}");
  lumo_plan *base = &plan->plan;
  const char *find = FIND("'post_id':{'$eq':1}", "'_id':1,'tag_id':1,'w':1");
  FEED(base, BATCH_OF(5, "{'_id':" ID(1) ",'tag_id':1,'w':0},{'_id':" ID(3) ",'tag_id':3}"));
  EXPECT(base, "more pt 5");
  restart_plan(base);
  EXPECT(base, find);
  FEED(base, BATCH("{'_id':" ID(1) ",'tag_id':1,'w':0},{'_id':" ID(3) ",'tag_id':3}"));
  FEED(base, "{'nInserted':1}");
  FEED(base, "{'nModified':1}");
  EXPECT(base, "write pt D{'_id':{'$in':[" ID(3) "]}}");
  restart_plan(base);
  EXPECT(base, find);
  CHECK_INT(plan->detached.count, 0);
  FEED(base, BATCH("{'_id':" ID(1) ",'tag_id':1,'w':1},{'_id':" ID(2) ",'tag_id':2}"));
  FATES(plan, "uu");
}

/* Where other unique indexes are known, rows that are inserted together are inserted all or none. */
static void test_guarded(void) {
  setup();
  pivot.guarded = true;
  lumo_pairs_plan *plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1}]}");
  CHECK(!plan->plan.atomic);
  end_plan(&plan->plan);
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1},{'v':2}]}");
  CHECK(plan->plan.atomic);
  end_plan(&plan->plan);
  pivot.atomic = false;
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1},{'v':2}]}");
  CHECK(!plan->plan.atomic);
  end_plan(&plan->plan);
}

static void test_foreign_duplicate(void) {
  setup();
  lumo_pairs_plan *plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1},{'v':2}]}");
  FEED(&plan->plan, BATCH(""));
  check_refused(plan, "{'nInserted':1,'writeErrors':[" DUPLICATE(1, "'slug':1,'x.y':-1") "]}", false,
                "E_DUPLICATE_KEY");
  CHECK(strcmp(error.key, "slug, x.y") == 0);
  CHECK(strcmp(error.cause, "E11000") == 0);
  CHECK_INT(error.server_code, 11000);
  CHECK_INT(error.write_index, 1);
  CHECK_INT(error.outcome, LUMO_APPLIED);
  CHECK(error.value && lumo_reply_count(error.value, error.value_len, "a") == 1);
  /* Nothing else was written, or it was rolled back. */
  setup();
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1},{'v':2}]}");
  FEED(&plan->plan, BATCH("{'tag_id':2}"));
  check_refused(plan, "{'nInserted':0,'writeErrors':[" DUPLICATE(0, "'post_id':1") "]}", false,
                "E_DUPLICATE_KEY");
  CHECK_INT(error.outcome, LUMO_NOT_APPLIED);
  setup();
  plan = new_plan(LUMO_SYNC, "{'ids':[{'v':1},{'v':2}]}");
  FEED(&plan->plan, BATCH(""));
  check_refused(plan, "{'nInserted':1,'writeErrors':[" DUPLICATE(1, "'post_id':1,'w':1") "]}", true,
                "E_DUPLICATE_KEY");
  CHECK_INT(error.outcome, LUMO_NOT_APPLIED);
  setup();
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1,'set':{'w':1}}]}");
  check_refused(plan, "{'writeErrors':[" DUPLICATE(0, "'w':1") "]}", false, "E_DUPLICATE_KEY");
  CHECK_INT(error.outcome, LUMO_NOT_APPLIED);
}

/* A server that refuses again and again, with an index that it does not name. */
static void test_endless_collision(void) {
  setup();
  lumo_pairs_plan *plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1},{'v':2}]}");
  const char *refusal = "{'nInserted':0,'writeErrors':[{'index':0,'code':11000},{'index':1,'code':11000}]}";
  int rounds = 0;
  FEED(&plan->plan, BATCH(""));
  for (; rounds < 100 && feed_json(&plan->plan, refusal, false, &error); rounds++) {
    EXPECT(&plan->plan,
           FIND("'$or':[{'post_id':{'$eq':1},'tag_id':{'$in':[1,2]}},{'_id':{'$in':[" D1 "," D2 "]}}]",
                "'_id':1,'post_id':1,'tag_id':1"));
    FEED(&plan->plan, BATCH(""));
    EXPECT(&plan->plan,
           "write? pt i{'_id':" D1 ",'post_id':1,'tag_id':1} i{'_id':" D2 ",'post_id':1,'tag_id':2}");
  }
  CHECK_INT(rounds, 16);
  CHECK(error.code && strcmp(error.code, "E_DUPLICATE_KEY") == 0);
  end_plan(&plan->plan);
}

/* ---- sync ---- */

static void test_sync(void) {
  setup();
  use_timestamps();
  lumo_pairs_plan *plan =
      new_plan(LUMO_SYNC, "{'ids':[{'v':2,'set':{'w':1}},{'v':1,'set':{'w':1}},{'v':3}]}");
  CHECK(plan->plan.atomic);
  EXPECT(&plan->plan, FIND("'post_id':{'$eq':1}", "'_id':1,'tag_id':1,'w':1"));
  FEED(&plan->plan,
       BATCH("{'_id':" ID(9) ",'tag_id':9},{'_id':" ID(1) ",'tag_id':1,'w':1},{'_id':" ID(
           2) ",'tag_id':2,'w':'1'},"
              "{'_id':" ID(7) ",'tag_id':7},{'_id':" ID(8) ",'tag_id':9},{'_id':" ID(6) ",'tag_id':null}"));
  EXPECT(&plan->plan,
         "write? pt i{'_id':" D3 ",'post_id':1,'tag_id':3,'created_at':" NOW ",'updated_at':" NOW "}");
  FEED(&plan->plan, "{'nInserted':1}");
  EXPECT(&plan->plan, "write pt u{'_id':{'$eq':" ID(2) "}},{'$set':{'w':1,'updated_at':" NOW "}}");
  FEED(&plan->plan, "{'nModified':1}");
  EXPECT(&plan->plan, "write pt D{'_id':{'$in':[" ID(9) "," ID(7) "," ID(8) "]}}");
  FEED(&plan->plan, "{'nRemoved':3}");
  CHECK_INT(plan->detached.count, 2);
  lumo_value first = lumo_keys_at(&plan->detached, 0), second = lumo_keys_at(&plan->detached, 1);
  CHECK_INT(lumo_value_int32(&first), 9);
  CHECK_INT(lumo_value_int32(&second), 7);
  FATES(plan, "Uua");
}

static void test_sync_empty(void) {
  setup();
  lumo_pairs_plan *plan = new_plan(LUMO_SYNC, "{'ids':[]}");
  EXPECT(&plan->plan, FIND("'post_id':{'$eq':1}", "'_id':1,'tag_id':1"));
  FEED(&plan->plan, BATCH("{'_id':" ID(1) ",'tag_id':1}"));
  EXPECT(&plan->plan, "write pt D{'_id':{'$in':[" ID(1) "]}}");
  FEED(&plan->plan, "{'nRemoved':1}");
  CHECK_INT(plan->detached.count, 1);
  FATES(plan, "");
  plan = new_plan(LUMO_SYNC, "{'ids':[]}");
  FEED(&plan->plan, BATCH(""));
  FATES(plan, "");
}

/* What the condition hides is not removed, and is not added a second time either. */
static void test_sync_condition(void) {
  setup();
  use_condition();
  lumo_pairs_plan *plan = new_plan(LUMO_SYNC, "{'ids':[{'v':1},{'v':2}]}");
  EXPECT(&plan->plan,
         FIND("'post_id':{'$eq':1},'$or':[{'kind':'x'},{'tag_id':{'$in':[1,2]}}]", "'_id':1,'tag_id':1"));
  FEED(&plan->plan, BATCH("{'_id':" ID(2) ",'tag_id':2},{'_id':" ID(3) ",'tag_id':3}"));
  EXPECT(&plan->plan, "write? pt i{'_id':" D1 ",'post_id':1,'tag_id':1}");
  FEED(&plan->plan, "{'nInserted':1}");
  EXPECT(&plan->plan, "write pt D{'_id':{'$in':[" ID(3) "]},'$and':[{'kind':'x'}]}");
  FEED(&plan->plan, "{'nRemoved':1}");
  FATES(plan, "au");
  plan = new_plan(LUMO_SYNC, "{'ids':[]}");
  EXPECT(&plan->plan,
         FIND("'post_id':{'$eq':1},'$or':[{'kind':'x'},{'tag_id':{'$in':[]}}]", "'_id':1,'tag_id':1"));
  FEED(&plan->plan, BATCH(""));
  FATES(plan, "");
}

/* ---- bags ---- */

static void test_duplicates(void) {
  setup();
  pivot.duplicates = true;
  lumo_pairs_plan *plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1,'set':{'w':1}}]}");
  CHECK(!plan->plan.atomic);
  EXPECT(&plan->plan, "write pt i{'_id':" GENERATED ",'post_id':1,'tag_id':1,'w':1}");
  FEED(&plan->plan, "{'nInserted':1}");
  FATES(plan, "a");
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1,'set':{'w':1}},{'v':2}]}");
  CHECK(!plan->plan.atomic);
  EXPECT(&plan->plan, "write pt i{'_id':" GENERATED ",'post_id':1,'tag_id':1,'w':1}"
                      " i{'_id':" GENERATED ",'post_id':1,'tag_id':2}");
  FEED(&plan->plan, "{'nInserted':2}");
  FATES(plan, "aa");
  /* A sync keeps and updates all rows of an id. */
  plan = new_plan(LUMO_SYNC, "{'ids':[{'v':1,'set':{'w':1}},{'v':2}]}");
  FEED(&plan->plan, BATCH("{'_id':" ID(1) ",'tag_id':1,'w':1},{'_id':" ID(2) ",'tag_id':1,'w':2},{'_id':" ID(
                        3) ",'tag_id':3},"
                           "{'_id':" ID(4) ",'tag_id':3},{'_id':" ID(5) ",'tag_id':1}"));
  EXPECT(&plan->plan, "write pt i{'_id':" GENERATED ",'post_id':1,'tag_id':2}");
  FEED(&plan->plan, "{'nInserted':1}");
  EXPECT(&plan->plan,
         "write pt u{'_id':{'$eq':" ID(2) "}},{'$set':{'w':1}} u{'_id':{'$eq':" ID(5) "}},{'$set':{'w':1}}");
  FEED(&plan->plan, "{'nModified':2}");
  EXPECT(&plan->plan, "write pt D{'_id':{'$in':[" ID(3) "," ID(4) "]}}");
  FEED(&plan->plan, "{'nRemoved':2}");
  CHECK_INT(plan->detached.count, 1);
  FATES(plan, "Ua");
  /* And without detaching it adds only what is missing. */
  plan = new_plan(LUMO_SYNC_WITHOUT_DETACHING, "{'ids':[{'v':1}]}");
  EXPECT(&plan->plan, FIND("'post_id':{'$eq':1},'tag_id':{'$in':[1]}", "'_id':0,'tag_id':1"));
  FEED(&plan->plan, BATCH("{'tag_id':1},{'tag_id':1}"));
  FATES(plan, "u");
}

/* ---- pairs of documents that were made just now ---- */

static void test_attach_made(void) {
  setup();
  lumo_pairs_plan *plan =
      new_plan(LUMO_ATTACH_MADE, "{'ids':[{'v':1,'set':{'w':1}},{'v':2,'fresh':{'f':1}}]}");
  CHECK(!plan->plan.atomic);
  EXPECT(&plan->plan, "write? pt i{'_id':" D1 ",'post_id':1,'tag_id':1,'w':1}"
                      " i{'_id':" D2 ",'post_id':1,'tag_id':2,'f':1}");
  FEED(&plan->plan, "{'nInserted':2}");
  FATES(plan, "aa");
  /* Should there be a row all the same, it is found. */
  plan = new_plan(LUMO_ATTACH_MADE, "{'ids':[{'v':2}]}");
  FEED(&plan->plan, "{'writeErrors':[" DUPLICATE(0, "'_id':1") "]}");
  EXPECT(&plan->plan, LOOK_2);
  FEED(&plan->plan, BATCH("{'_id':" D2 ",'post_id':1,'tag_id':2}"));
  FATES(plan, "u");
  pivot.duplicates = true;
  plan = new_plan(LUMO_ATTACH_MADE, "{'ids':[{'v':1}]}");
  EXPECT(&plan->plan, "write pt i{'_id':" GENERATED ",'post_id':1,'tag_id':1}");
  FEED(&plan->plan, "{'nInserted':1}");
  FATES(plan, "a");
}

static void test_attach_each(void) {
  setup();
  use_timestamps();
  lumo_pairs_plan *plan = new_plan(LUMO_ATTACH_EACH, "{'ids':[{'v':1},{'v':2}]}");
  EXPECT(&plan->plan, "write? pt p{'post_id':{'$eq':1},'tag_id':{'$eq':1}},{'$setOnInsert':{'_id':" D1
                      ",'created_at':" NOW ",'updated_at':" NOW "}}"
                      " p{'post_id':{'$eq':1},'tag_id':{'$eq':2}},{'$setOnInsert':{'_id':" D2
                      ",'created_at':" NOW ",'updated_at':" NOW "}}");
  FEED(&plan->plan, "{'nMatched':1,'nModified':0,'nUpserted':1,'upserted':[{'index':1,'_id':1}]}");
  lumo_buf row = {0};
  EXPECT(&plan->plan, "done");
  lumo_pairs_row(plan, 0, &row);
  lumo_value found;
  CHECK(!lumo_bson_find(row.data, row.len, "created_at", 10, &found));
  lumo_buf_clear(&row);
  lumo_pairs_row(plan, 1, &row);
  CHECK(lumo_bson_find(row.data, row.len, "created_at", 10, &found));
  CHECK(lumo_bson_find(row.data, row.len, "tag_id", 6, &found) && lumo_value_int32(&found) == 2);
  CHECK(lumo_bson_find(row.data, row.len, "_id", 3, &found) && found.type == LUMO_BSON_OBJECTID &&
        memcmp(found.data, "\xc9\xe2\x8e\xce", 4) == 0); /* D2 */
  lumo_buf_free(&row);
  FATES(plan, "ua");
  /* A refused one is looked up, the others are settled. */
  setup();
  plan = new_plan(LUMO_ATTACH_EACH, "{'ids':[{'v':1},{'v':2}]}");
  FEED(&plan->plan,
       "{'nUpserted':1,'upserted':[{'index':0,'_id':1}],'writeErrors':[" DUPLICATE(1, "'_id':1") "]}");
  EXPECT(&plan->plan, LOOK_2);
  FEED(&plan->plan, BATCH("{'_id':" D2 ",'post_id':1,'tag_id':2}"));
  FATES(plan, "au");
  plan = new_plan(LUMO_ATTACH_EACH, "{'ids':[{'v':1},{'v':2}]}");
  check_refused(plan, "{'upserted':[{'index':2,'_id':1}]}", false, "E_SERVER");
}

/* ---- toggle ---- */

static void test_toggle(void) {
  setup();
  lumo_pairs_plan *plan = new_plan(LUMO_TOGGLE, "{'ids':[{'v':1},{'v':2},{'v':3}]}");
  CHECK(plan->plan.atomic);
  EXPECT(&plan->plan, FIND("'post_id':{'$eq':1},'tag_id':{'$in':[1,2,3]}", "'_id':1,'tag_id':1"));
  FEED(&plan->plan,
       BATCH("{'_id':" ID(1) ",'tag_id':1},{'_id':" ID(3) ",'tag_id':3},{'_id':" ID(4) ",'tag_id':3}"));
  EXPECT(&plan->plan, "write? pt i{'_id':" D2 ",'post_id':1,'tag_id':2}");
  FEED(&plan->plan, "{'nInserted':1}");
  EXPECT(&plan->plan, "write pt D{'_id':{'$in':[" ID(1) "," ID(3) "," ID(4) "]}}");
  FEED(&plan->plan, "{'nRemoved':1}"); /* another writer has removed two: detached they are */
  FATES(plan, "dad");
  /* A row that another writer inserts while we do is not for us to remove. */
  plan = new_plan(LUMO_TOGGLE, "{'ids':[{'v':2}]}");
  FEED(&plan->plan, BATCH(""));
  FEED(&plan->plan, "{'writeErrors':[" DUPLICATE(0, "'_id':1") "]}");
  EXPECT(&plan->plan, LOOK_2);
  FEED(&plan->plan, BATCH("{'_id':" D2 ",'post_id':1,'tag_id':2}"));
  FATES(plan, "u");
}

static void test_toggle_condition(void) {
  setup();
  use_condition();
  lumo_pairs_plan *plan = new_plan(LUMO_TOGGLE, "{'ids':[{'v':1},{'v':2}]}");
  EXPECT(&plan->plan,
         FIND("'post_id':{'$eq':1},'$and':[{'kind':'x'}],'tag_id':{'$in':[1,2]}", "'_id':1,'tag_id':1"));
  FEED(&plan->plan, BATCH("{'_id':" ID(1) ",'tag_id':1},{'_id':" ID(2) ",'tag_id':2}"));
  EXPECT(&plan->plan, "write pt D{'_id':{'$in':[" ID(1) "," ID(2) "]},'$and':[{'kind':'x'}]}");
  FEED(&plan->plan, "{'nRemoved':2}");
  FATES(plan, "dd");
  /* One row stands outside of the condition: it gets what the condition asks for; the third has none. */
  plan = new_plan(LUMO_TOGGLE, "{'ids':[{'v':1},{'v':2,'set':{'kind':'x'}},{'v':3,'set':{'kind':'x'}}]}");
  FEED(&plan->plan, BATCH("{'_id':" ID(1) ",'tag_id':1,'kind':'x'}"));
  EXPECT(&plan->plan, FIND("'post_id':{'$eq':1},'tag_id':{'$in':[2,3]}", "'_id':1,'tag_id':1,'kind':1"));
  FEED(&plan->plan, BATCH("{'_id':" ID(2) ",'tag_id':2,'kind':'y'}"));
  EXPECT(&plan->plan, "write? pt i{'_id':" D3 ",'post_id':1,'tag_id':3,'kind':'x'}");
  FEED(&plan->plan, "{'nInserted':1}");
  EXPECT(&plan->plan, "write pt u{'_id':{'$eq':" ID(2) "}},{'$set':{'kind':'x'}}");
  FEED(&plan->plan, "{'nModified':1}");
  EXPECT(&plan->plan, "write pt D{'_id':{'$in':[" ID(1) "]},'$and':[{'kind':'x'}]}");
  FEED(&plan->plan, "{'nRemoved':1}");
  FATES(plan, "dUa");
  /* In a bag there may be more rows of a pair: only those of the condition count. */
  pivot.duplicates = true;
  plan = new_plan(LUMO_TOGGLE, "{'ids':[{'v':1}]}");
  FEED(&plan->plan, BATCH(""));
  EXPECT(&plan->plan, "write pt i{'_id':" GENERATED ",'post_id':1,'tag_id':1}");
  FEED(&plan->plan, "{'nInserted':1}");
  FATES(plan, "a");
  plan = new_plan(LUMO_SYNC, "{'ids':[{'v':1}]}");
  EXPECT(&plan->plan, FIND("'post_id':{'$eq':1},'$and':[{'kind':'x'}]", "'_id':1,'tag_id':1"));
  FEED(&plan->plan, BATCH("{'_id':" ID(1) ",'tag_id':1}"));
  FATES(plan, "u");
}

/* ---- more than one command takes ---- */

/* The numbers from 1 to n as ids. */
static lumo_pairs_plan *new_large_plan(lumo_pairs_op op, int32_t n) {
  lumo_buf one = from_json("{'v':1}");
  lumo_value owner = value_of(&one);
  lumo_pairs pairs = {0};
  for (int32_t i = 1; i <= n; i++) {
    uint8_t bytes[4];
    memcpy(bytes, &i, sizeof bytes);
    lumo_value id = {bytes, sizeof bytes, LUMO_BSON_INT32};
    lumo_pairs_add(&pairs, &id, NULL, 0, NULL, 0, &error);
  }
  lumo_pairs_plan *plan = lumo_pairs_plan_new(op, "test", &pivot, &owner, &pairs, 1000, &error);
  lumo_buf_free(&one);
  return plan;
}

/* Numbers in the `$in` list at a path of the next step's command. */
static int count_in(lumo_plan *plan, const char *path) {
  lumo_step step;
  lumo_value list;
  lumo_iter it;
  int count = 0;
  if (!plan->class->next(plan, &step, &error) || step.kind != LUMO_STEP_READ) return -1;
  stepped = plan;
  if (!lumo_bson_find_path(step.command, step.command_len, path, strlen(path), &list)) return -2;
  lumo_iter_value(&it, &list);
  while (lumo_iter_next(&it)) count++;
  return count;
}

static int count_statements(lumo_plan *plan) {
  lumo_step step;
  lumo_statement statement;
  size_t at = 0;
  int count = 0;
  if (!plan->class->next(plan, &step, &error) || step.kind != LUMO_STEP_WRITE) return -1;
  stepped = plan;
  while (lumo_statement_next(step.statements, &at, &statement)) count++;
  return count;
}

static void test_portions(void) {
  setup();
  lumo_pairs_plan *plan = new_large_plan(LUMO_ATTACH, 250000);
  CHECK_INT(count_in(&plan->plan, "filter.tag_id.$in"), 100000);
  FEED(&plan->plan, BATCH("{'tag_id':1},{'tag_id':100000}"));
  CHECK_INT(count_in(&plan->plan, "filter.tag_id.$in"), 100000);
  FEED(&plan->plan, BATCH("{'tag_id':100001}"));
  CHECK_INT(count_in(&plan->plan, "filter.tag_id.$in"), 50000);
  FEED(&plan->plan, BATCH(""));
  CHECK_INT(count_statements(&plan->plan), 100000);
  FEED(&plan->plan, "{'nInserted':100000}");
  CHECK_INT(count_statements(&plan->plan), 100000);
  /* The last of these is refused (3 ids are there): it is looked up with all that have not been inserted yet.
   */
  FEED(&plan->plan, "{'nInserted':99999,'writeErrors':[" DUPLICATE(99999, "'_id':1") "]}");
  CHECK_INT(count_in(&plan->plan, "filter.$or.0.tag_id.$in"), 49998);
  FEED(&plan->plan, BATCH("{'_id':1,'post_id':1,'tag_id':200003}"));
  CHECK_INT(count_statements(&plan->plan), 49997);
  FEED(&plan->plan, "{'nInserted':49997}");
  EXPECT(&plan->plan, "done");
  CHECK_INT(plan->fates[200002], LUMO_PAIR_UNCHANGED);
  CHECK_INT(plan->fates[200003], LUMO_PAIR_ATTACHED);
  CHECK_INT(plan->fates[0], LUMO_PAIR_UNCHANGED);
  CHECK_INT(plan->fates[1], LUMO_PAIR_ATTACHED);
  CHECK_INT(plan->fates[100000], LUMO_PAIR_UNCHANGED);
  end_plan(&plan->plan);
  /* Sync under a condition: what it lets through is read once. */
  use_condition();
  plan = new_large_plan(LUMO_SYNC, 100001);
  CHECK_INT(count_in(&plan->plan, "filter.$or.1.tag_id.$in"), 100000);
  FEED(&plan->plan, BATCH("{'_id':1,'tag_id':100001},{'_id':2,'tag_id':5},{'_id':3,'tag_id':0}"));
  CHECK_INT(count_statements(&plan->plan),
            99999); /* the last one was among the condition's: no second find */
  restart_plan(&plan->plan);
  CHECK_INT(count_in(&plan->plan, "filter.$or.1.tag_id.$in"), 100000);
  FEED(&plan->plan, BATCH(""));
  EXPECT(&plan->plan,
         FIND("'post_id':{'$eq':1},'tag_id':{'$in':[100001]},'$nor':[{'kind':'x'}]", "'_id':1,'tag_id':1"));
  FEED(&plan->plan, BATCH("{'_id':1,'tag_id':100001}"));
  CHECK_INT(count_statements(&plan->plan), 100000);
  end_plan(&plan->plan);
}

/* Updates and large documents are sent in portions too, and a restart begins with the first. */
static void test_write_portions(void) {
  enum { COUNT = 100002 };
  lumo_buf set = from_json("{'w':1}"), reply = {0}, one = from_json("{'v':1}");
  lumo_value owner = value_of(&one);
  lumo_pairs pairs = {0};
  setup();
  size_t top = lumo_bson_begin(&reply);
  size_t cursor = lumo_bson_begin_document(&reply, LUMO_KEY("cursor"));
  lumo_bson_int64(&reply, LUMO_KEY("id"), 0);
  size_t batch = lumo_bson_begin_array(&reply, LUMO_KEY("firstBatch"));
  for (int32_t i = 0; i < COUNT; i++) {
    uint8_t bytes[4];
    memcpy(bytes, &i, sizeof bytes);
    lumo_value id = {bytes, sizeof bytes, LUMO_BSON_INT32};
    CHECK(lumo_pairs_add(&pairs, &id, set.data, (uint32_t)set.len, NULL, 0, &error));
    lumo_bson_index(&reply, LUMO_BSON_DOCUMENT, (uint32_t)i);
    size_t row = lumo_bson_begin(&reply);
    lumo_bson_int32(&reply, LUMO_KEY("_id"), i);
    lumo_bson_int32(&reply, LUMO_KEY("tag_id"), i);
    lumo_bson_end(&reply, row);
  }
  lumo_bson_end(&reply, batch);
  lumo_bson_end(&reply, cursor);
  lumo_bson_end(&reply, top);
  lumo_pairs_plan *plan = lumo_pairs_plan_new(LUMO_SYNC, "test", &pivot, &owner, &pairs, 1000, &error);
  for (int round = 0; round < 2; round++) {
    CHECK(feed_bytes(&plan->plan, &reply, false, &error));
    CHECK_INT(count_statements(&plan->plan), 100000);
    if (round == 0) restart_plan(&plan->plan);
  }
  FEED(&plan->plan, "{'nModified':100000}");
  EXPECT(&plan->plan,
         "write pt u{'_id':{'$eq':100000}},{'$set':{'w':1}} u{'_id':{'$eq':100001}},{'$set':{'w':1}}");
  FEED(&plan->plan, "{'nModified':2}");
  EXPECT(&plan->plan, "done");
  CHECK_INT(plan->fates[COUNT - 1], LUMO_PAIR_UPDATED);
  end_plan(&plan->plan);
  lumo_buf_free(&set);
  lumo_buf_free(&reply);
  /* Three documents of 9 MB: two go first. */
  char *text = calloc(1, 9 << 20);
  size_t document = lumo_bson_begin(&set);
  lumo_bson_string(&set, LUMO_KEY("w"), text, 9 << 20);
  lumo_bson_end(&set, document);
  free(text);
  for (int32_t i = 0; i < 3; i++) {
    uint8_t bytes[4];
    memcpy(bytes, &i, sizeof bytes);
    lumo_value id = {bytes, sizeof bytes, LUMO_BSON_INT32};
    CHECK(lumo_pairs_add(&pairs, &id, set.data, (uint32_t)set.len, NULL, 0, &error));
  }
  plan = lumo_pairs_plan_new(LUMO_SYNC, "test", &pivot, &owner, &pairs, 1000, &error);
  FEED(&plan->plan, BATCH(""));
  CHECK_INT(count_statements(&plan->plan), 2);
  FEED(&plan->plan, "{'nInserted':2}");
  CHECK_INT(count_statements(&plan->plan), 1);
  FEED(&plan->plan, "{'nInserted':1}");
  FATES(plan, "aaa");
  lumo_buf_free(&set);
  lumo_buf_free(&one);
}

/* ---- detach, update_pivot_data, reads ---- */

static void test_detach(void) {
  lumo_buf document = from_json("{'v':1}");
  lumo_value owner = value_of(&document);
  lumo_keys ids = {0};
  uint32_t index;
  setup();
  lumo_write_plan *plan = lumo_detach_plan_new("detach", &pivot, &owner, NULL, &error);
  EXPECT(&plan->plan, "write pt D{'post_id':{'$eq':1}}");
  FEED(&plan->plan, "{'nRemoved':3}");
  EXPECT(&plan->plan, "done");
  CHECK_INT(lumo_reply_count(plan->reply, plan->reply_len, "nRemoved"), 3);
  end_plan(&plan->plan);
  plan = lumo_detach_plan_new("detach", &pivot, &owner, &ids, &error);
  EXPECT(&plan->plan, "done");
  end_plan(&plan->plan);
  use_condition();
  lumo_keys_add(&ids, &owner, &index);
  plan = lumo_detach_plan_new("detach", &pivot, &owner, &ids, &error);
  CHECK(!plan->plan.atomic);
  EXPECT(&plan->plan, "write pt D{'post_id':{'$eq':1},'$and':[{'kind':'x'}],'tag_id':{'$in':[1]}}");
  end_plan(&plan->plan);
  lumo_keys_free(&ids);
  for (int32_t i = 0; i < 200001; i++) {
    uint8_t bytes[4];
    memcpy(bytes, &i, sizeof bytes);
    lumo_value id = {bytes, sizeof bytes, LUMO_BSON_INT32};
    lumo_keys_add(&ids, &id, &index);
  }
  plan = lumo_detach_plan_new("detach", &pivot, &owner, &ids, &error);
  CHECK(plan->plan.atomic);
  CHECK_INT(count_statements(&plan->plan), 3);
  end_plan(&plan->plan);
  lumo_keys_free(&ids);
  lumo_buf_free(&document);
}

static void check_update(const char *set, const char *expected) {
  lumo_buf one = from_json("{'v':1}"), two = from_json("{'v':2}"), attributes = from_json(set);
  lumo_value owner = value_of(&one), related = value_of(&two);
  lumo_write_plan *plan = lumo_pivot_update_plan_new("update_pivot_data", &pivot, &owner, &related,
                                                     attributes.data, (uint32_t)attributes.len, 1000, &error);
  EXPECT(&plan->plan, expected);
  CHECK(!plan->plan.atomic);
  end_plan(&plan->plan);
  lumo_buf_free(&one);
  lumo_buf_free(&two);
  lumo_buf_free(&attributes);
}

static void test_update(void) {
  setup();
  check_update("{'w':1,'n':null}", "write pt u{'post_id':{'$eq':1},'tag_id':{'$eq':2}}," PIPELINE(
                                       "'w':1,'n':null", MERGE(DIFFERS("w") "," DIFFERS("n"),
                                                               "{" CHANGED("w") "," CHANGED("n") "}")));
  check_update("{}", "write pt u{'post_id':{'$eq':1},'tag_id':{'$eq':2}},{'$setOnInsert':{'tag_id':2}}");
  pivot.duplicates = true;
  use_condition();
  check_update("{'w':1}",
               "write pt U{'post_id':{'$eq':1},'$and':[{'kind':'x'}],'tag_id':{'$eq':2}}," PIPELINE(
                   "'w':1", MERGE(DIFFERS("w"), "{" CHANGED("w") "}")));
  setup();
  use_timestamps();
  check_update("{'w':1}", "write pt u{'post_id':{'$eq':1},'tag_id':{'$eq':2}}," PIPELINE(
                              "'w':1", MERGE(DIFFERS("w"), "{" CHANGED("w") "}," MOVED)));
  check_update("{}", "write pt u{'post_id':{'$eq':1},'tag_id':{'$eq':2}},{'$setOnInsert':{'tag_id':2}}");
}

static void check_read(lumo_read_plan *plan, const char *expected) {
  EXPECT(&plan->plan, expected);
  end_plan(&plan->plan);
}

static void test_reads(void) {
  lumo_buf one = from_json("{'v':{'$gt':0}}"), two = from_json("{'v':2}");
  lumo_value owner = value_of(&one), related = value_of(&two);
  setup();
  check_read(lumo_pivot_rows_plan_new("pivot_data", &pivot, &owner, &related, 1, &error),
             "read1 pt "
             "{'find':'pt','filter':{'post_id':{'$eq':{'$gt':0}},'tag_id':{'$eq':2}},'limit':1,'batchSize':"
             "1000000}");
  use_condition();
  check_read(
      lumo_pivot_rows_plan_new("pivot_data", &pivot, &owner, NULL, 0, &error),
      "read pt "
      "{'find':'pt','filter':{'post_id':{'$eq':{'$gt':0}},'$and':[{'kind':'x'}]},'batchSize':1000000}");
  check_read(lumo_pivot_ids_plan_new("ids", &pivot, &owner, &error),
             "read pt {'find':'pt','filter':{'post_id':{'$eq':{'$gt':0}},'$and':[{'kind':'x'}]},"
             "'projection':{'_id':0,'tag_id':1},'batchSize':1000000}");
  check_read(
      lumo_pivot_count_plan_new("count", &pivot, &owner, &error),
      "read1 pt {'aggregate':'pt','pipeline':[{'$match':{'post_id':{'$eq':{'$gt':0}},'$and':[{'kind':'x'}]}},"
      "{'$count':'n'}],'cursor':{}}");
  lumo_buf_free(&one);
  lumo_buf_free(&two);
}

/* ---- replies that are not what they should be ---- */

static void test_malformed_replies(void) {
  setup();
  lumo_pairs_plan *plan = new_plan(LUMO_SYNC, "{'ids':[{'v':1,'set':{'w':1}}]}");
  check_refused(plan, BATCH("{'tag_id':1}"), false, "E_SERVER"); /* no _id */
  plan = new_plan(LUMO_SYNC, "{'ids':[]}");
  check_refused(plan, BATCH("{'tag_id':1}"), false, "E_SERVER");
  plan = new_plan(LUMO_SYNC, "{'ids':[]}");
  check_refused(plan, BATCH("7"), false, "E_SERVER");
  plan = new_plan(LUMO_SYNC, "{'ids':[]}");
  check_refused(plan, "{'ok':1}", false, "E_SERVER");
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1}]}");
  check_refused(plan, "{'writeErrors':[{'index':1,'code':11000}]}", false, "E_SERVER");
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1}]}");
  check_refused(plan, "{'writeErrors':[{'index':-1,'code':11000}]}", false, "E_SERVER");
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1}]}");
  check_refused(plan, "{'writeErrors':[5]}", false, "E_SERVER");
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1}]}");
  FEED(&plan->plan, "{'writeErrors':[{'index':0,'code':11000}]}");
  CHECK_INT(count_in(&plan->plan, "filter.$or.0.tag_id.$in"), 1);
  check_refused(plan, BATCH("{'post_id':1,'tag_id':1}"), false, "E_SERVER");
  plan = new_plan(LUMO_ATTACH, "{'ids':[{'v':1}]}");
  FEED(&plan->plan, "{}");
  FATES(plan, "u");
}

/* ---- memory ---- */

static lumo_buf memory_ids;
static lumo_pairs_op memory_op;

static lumo_plan *make_plan(lumo_error *failure) {
  static const uint8_t bytes[4] = {1};
  lumo_value owner = {bytes, sizeof bytes, LUMO_BSON_INT32};
  lumo_pairs pairs = {0};
  if (!make_pairs(&pairs, &memory_ids, failure)) {
    lumo_pairs_free(&pairs);
    return NULL;
  }
  lumo_pairs_plan *plan = lumo_pairs_plan_new(memory_op, "test", &pivot, &owner, &pairs, 1000, failure);
  return plan ? &plan->plan : NULL;
}

static lumo_plan *make_detach(lumo_error *failure) {
  static const uint8_t bytes[4] = {1};
  lumo_value owner = {bytes, sizeof bytes, LUMO_BSON_INT32};
  lumo_write_plan *plan = lumo_detach_plan_new("detach", &pivot, &owner, NULL, failure);
  return plan ? &plan->plan : NULL;
}

static lumo_plan *make_update(lumo_error *failure) {
  static const uint8_t bytes[4] = {1}, set[] = {12, 0, 0, 0, LUMO_BSON_INT32, 'n', 0, 1, 0, 0, 0, 0};
  lumo_value owner = {bytes, sizeof bytes, LUMO_BSON_INT32};
  lumo_write_plan *plan =
      lumo_pivot_update_plan_new("update_pivot_data", &pivot, &owner, &owner, set, sizeof set, 1000, failure);
  return plan ? &plan->plan : NULL;
}

static lumo_plan *make_ids(lumo_error *failure) {
  static const uint8_t bytes[4] = {1};
  lumo_value owner = {bytes, sizeof bytes, LUMO_BSON_INT32};
  lumo_read_plan *plan = lumo_pivot_ids_plan_new("ids", &pivot, &owner, failure);
  return plan ? &plan->plan : NULL;
}

static void test_memory(void) {
  setup();
  use_timestamps();
  use_condition();
  memory_ids = from_json("{'ids':[{'v':1,'set':{'w':1}},{'v':2,'fresh':{'f':1}},{'v':3}]}");
  memory_op = LUMO_SYNC;
  check_memory(make_plan,
               (const char *const[]){BATCH_OF(5, "{'_id':1,'tag_id':1,'w':2}"), BATCH("{'_id':9,'tag_id':9}"),
                                     "{'nInserted':1,'writeErrors':[" DUPLICATE(0, "'_id':1") "]}",
                                     BATCH("{'_id':" D2 ",'post_id':4,'tag_id':4}"), "{'nInserted':1}",
                                     "{'nModified':1}", "{'nRemoved':1}", NULL});
  memory_op = LUMO_TOGGLE;
  check_memory(make_plan, (const char *const[]){BATCH("{'_id':1,'tag_id':1,'w':2}"), BATCH(""),
                                                "{'nInserted':2}", "{'nRemoved':1}", NULL});
  lumo_buf_free(&memory_ids);
  memory_ids = from_json("{'ids':[{'v':1,'set':{'w':1}}]}");
  memory_op = LUMO_ATTACH;
  check_memory(make_plan, (const char *const[]){"{'nUpserted':1,'upserted':[{'index':0,'_id':1}]}", NULL});
  lumo_buf_free(&memory_ids);
  check_memory(make_detach, (const char *const[]){"{'nRemoved':1}", NULL});
  check_memory(make_update, (const char *const[]){"{'nMatched':1}", NULL});
  check_memory(make_ids, (const char *const[]){BATCH("{'tag_id':1}"), NULL});
}

int main(void) {
  test_attach_one();
  test_attach_one_timestamps();
  test_attach_one_collision();
  test_attach_one_collision_attributes();
  test_attach_many();
  test_attach_many_attributes();
  test_attach_many_collision();
  test_attach_dead_transaction();
  test_restart();
  test_guarded();
  test_foreign_duplicate();
  test_endless_collision();
  test_sync();
  test_sync_empty();
  test_sync_condition();
  test_duplicates();
  test_attach_made();
  test_attach_each();
  test_toggle();
  test_toggle_condition();
  test_portions();
  test_write_portions();
  test_detach();
  test_update();
  test_reads();
  test_malformed_replies();
  test_memory();
  setup();
  return check_report();
}
