/* Relations inside queries, as the commands that they become. */
#include "core/aggregates.h"

#include "plan_script.h"

/* The document as MongoDB's JSON, without blanks and with ' for ", in a buffer that the next call takes. */
static const char *text_of(const lumo_buf *document) {
  static lumo_buf text;
  lumo_buf_clear(&text);
  lumo_json_document(&text, document->data, document->len, false, LUMO_JSON_RELAXED);
  lumo_buf_append(&text, "", 1);
  for (size_t i = 0; i < text.len; i++)
    if (text.data[i] == '"') text.data[i] = '\'';
  return (const char *)text.data;
}

/* The same of a text in this file; two of them may be in use. */
static const char *plain(const char *expected) {
  static char texts[2][2048];
  static int turn;
  char *out = texts[turn ^= 1], *to = out;
  for (; *expected; expected++)
    if (*expected != ' ') *to++ = *expected;
  *to = 0;
  return out;
}

#define CHECK_NAME(actual, expected) CHECK_TEXT(actual, strlen(actual), expected)
#define CHECK_JSON(document, expected) CHECK_NAME(text_of(document), plain(expected))

static lumo_schema *schema(const char *model, const char *collection) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_schema *made = lumo_schema_new(model, collection, true, &error);
  lumo_schema_add(made, "id", "_id", "id", LUMO_OBJECTID, &error)->primary = true;
  lumo_schema_seal(made, &error);
  return made;
}

static void where(lumo_query *query, const char *path, int32_t value, lumo_join join, lumo_side side) {
  lumo_filter_begin(&query->filter);
  size_t document = lumo_bson_begin(&query->filter.bytes);
  lumo_bson_int32(&query->filter.bytes, path, strlen(path), value);
  lumo_bson_end(&query->filter.bytes, document);
  lumo_filter_end(&query->filter, join, false, side);
}

static const lumo_hop pivot_hops[] = {
    {.collection = "rows", .from = "_id", .to = "user_id", .side = LUMO_SIDE_PIVOT},
    {.collection = "tags", .from = "tag_id", .to = "_id", .side = LUMO_SIDE_RELATED, .optional = true},
};
static const lumo_hop one_hop[] = {
    {.collection = "posts", .from = "_id", .to = "user_id", .side = LUMO_SIDE_RELATED}};
static const lumo_hop through_hops[] = {
    {.collection = "users", .from = "_id", .to = "country_id"},
    {.collection = "posts", .from = "_id", .to = "user_id", .side = LUMO_SIDE_RELATED}};

#define ROWS_OF "{ '$match' : { 'user_id' : { '$ne' : null } } }"

/* The stages of a find with these conditions on what a relation leads to. */
static void check_find(lumo_query *query, const char *expected) {
  lumo_buf out = {0};
  lumo_query_find(query, NULL, 0, 0, 1000, &out);
  CHECK(!out.failed);
  CHECK_JSON(&out, expected);
  lumo_buf_free(&out);
}

static void counts_rows(const lumo_schema *users) {
  lumo_query query = {.schema = users}, inner = {.schema = users};
  lumo_way way = {pivot_hops, 2, &inner};
  CHECK(lumo_query_has(&query, &way, LUMO_COMPARE_GTE, 1, LUMO_AND, false));
  where(&query, "age", 3, LUMO_AND, LUMO_SIDE_RELATED);
  check_find(&query,
             "{ 'aggregate' : 'users', 'pipeline' : [ { '$match' : { '$and' : [ { 'age' : 3 } ] } }, "
             "{ '$lookup' : { 'from' : 'rows', 'localField' : '_id', 'foreignField' : 'user_id', "
             "'as' : 'lumo:0', 'pipeline' : [ " ROWS_OF ", { '$limit' : 1 }, { '$count' : 'n' } ] } }, "
             "{ '$match' : { '$and' : [ { 'lumo:0.n' : { '$gte' : 1 } } ] } }, "
             "{ '$project' : { 'lumo:0' : 0 } } ], 'cursor' : { 'batchSize' : 1000 } }");
  lumo_query_free(&query);
}

/* What one comparison asks for: the limit of the count and the condition. */
static void check_comparison(const lumo_schema *users, lumo_comparison comparison, int64_t n, bool negated,
                             const char *limit, const char *condition) {
  lumo_query query = {.schema = users}, inner = {.schema = users};
  lumo_way way = {one_hop, 1, &inner};
  lumo_buf out = {0};
  CHECK(lumo_query_has(&query, &way, comparison, n, LUMO_AND, negated));
  lumo_query_find(&query, NULL, 0, 0, 1, &out);
  CHECK(strstr(text_of(&out), plain(condition)) != NULL);
  CHECK_INT(query.join_count, limit ? 1 : 0);
  CHECK((limit ? strstr(text_of(&out), plain(limit)) : text_of(&out)) != NULL);
  CHECK_INT(lumo_filter_narrows(&query.filter), strcmp(condition, "'filter' : {  }") != 0);
  lumo_buf_free(&out);
  lumo_query_free(&query);
}

static void comparisons(const lumo_schema *users) {
#define LEAST(n) "{ 'lumo:0.n' : { '$gte' : " #n " } }"
#define EXACTLY(n) "{ 'lumo:0.n' : { '$eq' : " #n " } }"
#define NOT(condition) "{ '$nor' : [ " condition " ] }"
  check_comparison(users, LUMO_COMPARE_GTE, 2, false, "'$limit' : 2 ", LEAST(2));
  check_comparison(users, LUMO_COMPARE_GT, 2, false, "'$limit' : 3 ", LEAST(3));
  check_comparison(users, LUMO_COMPARE_LT, 2, false, "'$limit' : 2 ", NOT(LEAST(2)));
  check_comparison(users, LUMO_COMPARE_LTE, 2, false, "'$limit' : 3 ", NOT(LEAST(3)));
  check_comparison(users, LUMO_COMPARE_EQ, 2, false, "'$limit' : 3 ", EXACTLY(2));
  check_comparison(users, LUMO_COMPARE_NE, 2, false, "'$limit' : 3 ", NOT(EXACTLY(2)));
  check_comparison(users, LUMO_COMPARE_EQ, 0, false, "'$limit' : 1 ", NOT(LEAST(1)));
  check_comparison(users, LUMO_COMPARE_NE, 0, false, "'$limit' : 1 ", "'$and' : [ " LEAST(1));
  check_comparison(users, LUMO_COMPARE_GTE, 1, true, "'$limit' : 1 ", NOT(LEAST(1)));
  check_comparison(users, LUMO_COMPARE_LT, 1, true, "'$limit' : 1 ", "'$and' : [ " LEAST(1));
  check_comparison(users, LUMO_COMPARE_GTE, 0, false, NULL, "'filter' : {  }");
  check_comparison(users, LUMO_COMPARE_LT, 0, false, NULL, "'filter' : { '$nor' : [ {  } ] }");
}

/* Conditions on each side of a relation over a pivot, and a relation inside of the relation. */
static void follows_conditions(const lumo_schema *users, const lumo_schema *tags) {
  lumo_query query = {.schema = users}, inner = {.schema = tags}, innermost = {.schema = users};
  lumo_way way = {pivot_hops, 2, &inner}, back = {one_hop, 1, &innermost};
  where(&inner, "role", 1, LUMO_AND, LUMO_SIDE_PIVOT);
  where(&inner, "hot", 2, LUMO_AND, LUMO_SIDE_RELATED);
  CHECK(lumo_query_has(&inner, &back, LUMO_COMPARE_EQ, 0, LUMO_AND, false));
  CHECK(lumo_query_has(&query, &way, LUMO_COMPARE_GTE, 1, LUMO_AND, true));
  lumo_buf join = {0};
  lumo_buf_append(&join, query.joins.data, query.joins.len);
  CHECK_JSON(&join, "{ '$lookup' : { 'from' : 'rows', 'localField' : '_id', 'foreignField' : "
                    "'user_id', 'as' : "
                    "'lumo:0', 'pipeline' : [ " ROWS_OF ", { '$match' : { '$and' : [ { 'role' : 1 } ] } }, "
                    "{ '$lookup' : { 'from' : 'tags', 'localField' : 'tag_id', 'foreignField' : "
                    "'_id', 'as' : "
                    "'lumo:h', 'pipeline' : [ { '$match' : { '$and' : [ { 'hot' : 2 } ] } }, "
                    "{ '$lookup' : { 'from' : 'posts', 'localField' : '_id', 'foreignField' : "
                    "'user_id', 'as' : "
                    "'lumo:0', 'pipeline' : [ " ROWS_OF ", { '$limit' : 1 }, { '$count' : 'n' } ] } }, "
                    "{ '$match' : { '$and' : [ { '$nor' : [ { 'lumo:0.n' : { '$gte' : 1 "
                    "} } ] } ] } }, "
                    "{ '$project' : { '_id' : 1 } } ] } }, { '$unwind' : '$lumo:h' }, { '$limit' : 1 }, "
                    "{ '$count' : 'n' } ] } }");
  lumo_buf_free(&join);
  lumo_query_free(&innermost);
  lumo_query_free(&inner);
  lumo_query_free(&query);
}

#define PAIRED(row)                                                                                          \
  "{ '$replaceRoot' : { 'newRoot' : { '$mergeObjects' : [ '$lumo:h', { '__lumo_pivot' : '" row               \
  "' } ] } } }, "                                                                                            \
  "{ '$match' : { '$or' : [ { 'hot' : 2 }, { '__lumo_pivot.role' : 1 } ] } }, "

/* An `or` between the sides is asked of pairs. */
static void pairs(const lumo_schema *users, const lumo_schema *tags) {
  lumo_query query = {.schema = users}, inner = {.schema = tags};
  lumo_way way = {pivot_hops, 2, &inner};
  where(&inner, "hot", 2, LUMO_AND, LUMO_SIDE_RELATED);
  where(&inner, "role", 1, LUMO_OR, LUMO_SIDE_PIVOT);
  CHECK(lumo_query_has(&query, &way, LUMO_COMPARE_GT, 1, LUMO_AND, false));
  const char *text = text_of(&query.joins);
  const char *joined = strstr(text, "'as':'lumo:h','pipeline':[]}},{'$unwind':'$lumo:h'},");
  CHECK(joined != NULL);
  CHECK(strstr(text, plain(PAIRED("$$ROOT") "{ '$limit' : 2 }, { '$count' : 'n' }")) != NULL);
  lumo_query_free(&inner);
  lumo_query_free(&query);
}

static void copies_and_drops(const lumo_schema *users) {
  lumo_query query = {.schema = users}, inner = {.schema = users}, copy;
  lumo_way way = {through_hops, 2, &inner};
  CHECK(lumo_query_has(&query, &way, LUMO_COMPARE_GTE, 1, LUMO_AND, false));
  size_t one = query.joins.len;
  lumo_filter_mark mark = lumo_filter_position(&query.filter);
  CHECK(strstr(text_of(&query.joins), plain("'from' : 'posts'")) != NULL); /* what counts are the posts */
  CHECK(lumo_query_has(&query, &way, LUMO_COMPARE_GT, 4, LUMO_OR, false));
  CHECK(lumo_query_copy(&copy, &query));
  CHECK_INT(copy.join_count, 2);
  CHECK_INT(copy.joins.len, query.joins.len);
  lumo_filter_rewind(&query.filter, mark);
  lumo_query_drop_joins(&query, 1);
  CHECK_INT(query.joins.len, one);
  lumo_query_drop_joins(&query, 5);
  CHECK_INT(query.join_count, 1);
  lumo_query_free(&copy);
  lumo_query_free(&query);
}

static void add_owners(lumo_keys *keys, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    lumo_buf element = {0};
    uint32_t place;
    lumo_bson_int32(&element, LUMO_KEY("k"), (int32_t)i);
    lumo_value value = {.type = LUMO_BSON_INT32, .data = element.data + 3, .len = 4};
    CHECK_INT(lumo_keys_add(keys, &value, &place), 1);
    lumo_buf_free(&element);
  }
}

/* The commands that a plan sends to a server that has nothing. */
static uint32_t run_empty(lumo_read_plan *plan, const char **collections) {
  lumo_error error;
  lumo_step step;
  lumo_error_init(&error);
  for (uint32_t commands = 0;; commands++) {
    CHECK(plan->plan.class->next(&plan->plan, &step, &error));
    if (step.kind == LUMO_STEP_DONE) return commands;
    stepped = &plan->plan;
    CHECK_INT(step.kind, LUMO_STEP_READ);
    CHECK_NAME(step.collection, collections[commands]);
    FEED(&plan->plan, BATCH(""));
  }
}

static void portions(const lumo_schema *tags) {
  lumo_query plain = {.schema = tags}, hot = {.schema = tags};
  lumo_error error;
  lumo_error_init(&error);
  where(&hot, "hot", 1, LUMO_AND, LUMO_SIDE_RELATED);
  lumo_aggregate all[] = {
      {.way = {pivot_hops, 2, &plain}, .op = LUMO_COUNT},
      {.way = {one_hop, 1, &hot}, .op = LUMO_SUM, .field = "points", .side = LUMO_SIDE_RELATED},
      {.way = {pivot_hops, 2, &hot}, .op = LUMO_COUNT}};
  for (int i = 0; i < 3; i++) add_owners(&all[i].owners, i == 1 ? 10 : 2500);
  const struct {
    uint32_t first, count;
    bool apart, joins;
    uint32_t commands;
    const char *collections[5];
  } cases[] = {
      {0, 1, false, false, 1, {"rows"}},
      {0, 2, false, false, 1, {"rows"}},
      {2, 1, false, true, 3, {"rows", "rows", "rows"}},
      {0, 3, false, true, 3, {"rows", "rows", "rows"}},
      {1, 2, false, true, 3, {"posts", "posts", "posts"}},
      {0, 3, true, true, 5, {"rows", "posts", "rows", "rows", "rows"}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    lumo_read_plan *plan =
        lumo_aggregates_plan_new("load_count", all + cases[i].first, cases[i].count, cases[i].apart, &error);
    CHECK(plan != NULL);
    CHECK_INT(plan->plan.least_version, cases[i].joins ? LUMO_WIRE_JOINS : 0);
    const char *collections[5];
    memcpy(collections, cases[i].collections, sizeof collections);
    CHECK_INT(run_empty(plan, collections), cases[i].commands);
    plan->plan.class->restart(&plan->plan);
    CHECK_INT(run_empty(plan, collections), cases[i].commands);
    lumo_plan_free(&plan->plan);
  }
  for (int i = 0; i < 3; i++) lumo_keys_free(&all[i].owners);
  lumo_query_free(&hot);
}

static void check_aggregate(lumo_way way, lumo_aggregate_op op, const char *field, lumo_side side,
                            const char *expected) {
  lumo_aggregate a = {.way = way, .op = op, .field = field, .side = side};
  lumo_error error;
  lumo_error_init(&error);
  add_owners(&a.owners, 1);
  lumo_read_plan *plan = lumo_aggregates_plan_new("load_count", &a, 1, false, &error);
  const char *owners = "'$in':[0]}}},";
  const char *from = strstr(text_of(&plan->command), owners);
  CHECK(from != NULL);
  if (from) {
    from += strlen(owners);
    expected = plain(expected);
    CHECK_TEXT(from, strlen(expected), expected);
    CHECK_INT(strncmp(from + strlen(expected), "],'allowDiskUse'", 16), 0);
  }
  lumo_plan_free(&plan->plan);
  lumo_keys_free(&a.owners);
}

static void groups(const lumo_schema *tags) {
  lumo_query inner = {.schema = tags}, hot = {.schema = tags};
  where(&hot, "hot", 1, LUMO_AND, LUMO_SIDE_RELATED);
  const lumo_way rows = {pivot_hops, 2, &inner}, hot_rows = {pivot_hops, 2, &hot}, posts = {one_hop, 1, &hot};
  const lumo_way through = {through_hops, 2, &inner};
  check_aggregate(rows, LUMO_COUNT, NULL, 0, "{ '$group' : { '_id' : '$user_id', 'n' : { '$sum' : 1 } } }");
  check_aggregate(rows, LUMO_MAX, "score", LUMO_SIDE_PIVOT,
                  "{ '$group' : { '_id' : '$user_id', 'n' : { '$max' : '$score' } } }");
  check_aggregate(posts, LUMO_AVG, "views", LUMO_SIDE_RELATED,
                  "{ '$match' : { 'hot' : 1 } }, "
                  "{ '$group' : { '_id' : '$user_id', 'n' : { '$avg' : '$views' } } }");
  check_aggregate(rows, LUMO_COUNT, "score", LUMO_SIDE_PIVOT,
                  "{ '$group' : { '_id' : '$user_id', 'n' : { '$sum' : { '$cond' : [ { '$gt' : [ "
                  "'$score', null ] }, 1, 0 ] } } } }");
  check_aggregate(rows, LUMO_COUNT_DISTINCT, "score", LUMO_SIDE_PIVOT,
                  "{ '$group' : { '_id' : { 'k' : '$user_id', 'v' : '$score' } } }, "
                  "{ '$match' : { '_id.v' : { '$ne' : null } } }, "
                  "{ '$group' : { '_id' : '$_id.k', 'n' : { '$sum' : 1 } } }");
#define JOINED(push, match, project)                                                                         \
  "{ '$match' : { 'tag_id' : { '$ne' : null } } }, { '$group' : { 'o' : { '$push' : " push " }, '_id' : "    \
  "'$tag_id' } }, { '$lookup' : { 'from' : 'tags', 'localField' : '_id', 'foreignField' : '_id', 'as' : "    \
  "'lumo:h', 'pipeline' : [ " match "{ '$project' : { " project                                              \
  " : 1 } } ] } }, { '$unwind' : '$lumo:h' }, "                                                              \
  "{ '$unwind' : '$o' }, "
#define HOT "{ '$match' : { 'hot' : 1 } }, "
  check_aggregate(hot_rows, LUMO_COUNT, NULL, 0,
                  JOINED("'$user_id'", HOT, "'_id'") "{ '$group' : { '_id' : '$o', 'n' : { '$sum' : 1 } } }");
  check_aggregate(hot_rows, LUMO_MIN, "score", LUMO_SIDE_PIVOT,
                  JOINED("{ 'k' : '$user_id', 'v' : '$score' }", HOT,
                         "'_id'") "{ '$group' : { '_id' : '$o.k', 'n' : { '$min' : '$o.v' } } }");
  check_aggregate(rows, LUMO_SUM, "points", LUMO_SIDE_RELATED,
                  JOINED("'$user_id'", "",
                         "'points'") "{ '$group' : { '_id' : '$o', 'n' : { '$sum' : '$lumo:h.points' } } }");
  check_aggregate(
      through, LUMO_SUM, "views", LUMO_SIDE_RELATED,
      "{ '$match' : { '_id' : { '$ne' : null } } }, { '$group' : { 'o' : { '$push' : '$country_id' "
      "}, '_id' : '$_id' } }, { '$lookup' : { 'from' : 'posts', 'localField' : '_id', "
      "'foreignField' : 'user_id', 'as' : 'lumo:h', 'pipeline' : [ " ROWS_OF
      ", { '$project' : { 'views' : 1 } } ] } }, { '$unwind' : '$lumo:h' }, { '$unwind' : '$o' }, "
      "{ '$group' : { '_id' : '$o', 'n' : { '$sum' : '$lumo:h.views' } } }");
  lumo_query_free(&hot);
}

static void paired_groups(const lumo_schema *tags) {
  lumo_query either = {.schema = tags};
  where(&either, "hot", 2, LUMO_AND, LUMO_SIDE_RELATED);
  where(&either, "role", 1, LUMO_OR, LUMO_SIDE_PIVOT);
  const lumo_way rows = {pivot_hops, 2, &either};
#define PAIRED_ROWS                                                                                          \
  "{ '$match' : { 'tag_id' : { '$ne' : null } } }, { '$group' : { 'o' : { '$push' : "                        \
  "'$$ROOT' }, '_id' : '$tag_id' } }, { '$lookup' : { 'from' : 'tags', 'localField' : '_id', "               \
  "'foreignField' : '_id', 'as' : 'lumo:h', 'pipeline' : [] } }, "                                           \
  "{ '$unwind' : '$lumo:h' }, { '$unwind' : '$o' }, " PAIRED("$o")
  check_aggregate(rows, LUMO_SUM, "points", LUMO_SIDE_RELATED,
                  PAIRED_ROWS
                  "{ '$group' : { '_id' : '$__lumo_pivot.user_id', 'n' : { '$sum' : '$points' } } }");
  check_aggregate(rows, LUMO_MAX, "score", LUMO_SIDE_PIVOT,
                  PAIRED_ROWS "{ '$group' : { '_id' : '$__lumo_pivot.user_id', 'n' : { '$max' : "
                              "'$__lumo_pivot.score' } } }");
  lumo_query_free(&either);
}

/* Every allocation of a has fails once: the query is as before. */
static void no_memory_for_has(const lumo_schema *users, const lumo_schema *tags) {
  lumo_query query = {.schema = users}, inner = {.schema = tags}, copy;
  lumo_way way = {pivot_hops, 2, &inner};
  where(&inner, "hot", 1, LUMO_AND, LUMO_SIDE_RELATED);
  CHECK(lumo_query_has(&query, &way, LUMO_COMPARE_GTE, 1, LUMO_AND, false));
  size_t joins = query.joins.len;
  bool good = false;
  for (unsigned long n = 1; !good && n < 100; n++) {
    CHECK(lumo_query_copy(&copy, &query));
    lumo_mem_fail_at(n);
    good = lumo_query_has(&copy, &way, LUMO_COMPARE_GT, 2, LUMO_OR, false);
    lumo_mem_fail_at(0);
    CHECK_INT(copy.join_count, good ? 2 : 1);
    if (!good) CHECK_INT(copy.joins.len, joins);
    if (!good) CHECK_INT(copy.filter.count, query.filter.count);
    lumo_buf out = {0};
    lumo_query_find(&copy, NULL, 0, 0, 0, &out);
    CHECK(!out.failed);
    lumo_buf_free(&out);
    lumo_query_free(&copy);
  }
  CHECK(good);
  lumo_query_free(&inner);
  lumo_query_free(&query);
}

static const lumo_query *aggregated;

static lumo_plan *make_aggregates(lumo_error *error) {
  lumo_aggregate all[] = {{.way = {pivot_hops, 2, aggregated}, .op = LUMO_COUNT},
                          {.way = {pivot_hops, 2, aggregated},
                           .op = LUMO_COUNT_DISTINCT,
                           .field = "score",
                           .side = LUMO_SIDE_PIVOT}};
  lumo_read_plan *plan = NULL;
  uint32_t place;
  const uint8_t number[4] = {1, 0, 0, 0};
  const lumo_value key = {.type = LUMO_BSON_INT32, .data = number, .len = 4};
  if (lumo_keys_add(&all[0].owners, &key, &place) < 0 || lumo_keys_add(&all[1].owners, &key, &place) < 0)
    lumo_error_memory(error);
  else
    plan = lumo_aggregates_plan_new("load_count", all, 2, false, error);
  lumo_keys_free(&all[0].owners);
  lumo_keys_free(&all[1].owners);
  return plan ? &plan->plan : NULL;
}

static void no_memory_for_aggregates(const lumo_schema *tags) {
  lumo_query either = {.schema = tags};
  where(&either, "hot", 2, LUMO_AND, LUMO_SIDE_RELATED);
  where(&either, "role", 1, LUMO_OR, LUMO_SIDE_PIVOT);
  aggregated = &either;
  check_memory(make_aggregates, (const char *const[]){BATCH("{'_id':1,'n':3},{'_id':1,'n':2,'a':1}"), NULL});
  lumo_query_free(&either);
}

int main(void) {
  lumo_schema *users = schema("User", "users"), *tags = schema("Tag", "tags");
  counts_rows(users);
  comparisons(users);
  follows_conditions(users, tags);
  pairs(users, tags);
  copies_and_drops(users);
  portions(tags);
  groups(tags);
  paired_groups(tags);
  no_memory_for_has(users, tags);
  no_memory_for_aggregates(tags);
  lumo_schema_free(users);
  lumo_schema_free(tags);
  return check_report();
}
