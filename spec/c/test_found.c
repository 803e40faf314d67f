/* Bulk writes to what an aggregate finds. */
#include "core/found.h"

#include "plan_script.h"

static bool removes;

static lumo_plan *make(lumo_error *error) {
  lumo_buf command = {0}, filter = {0}, update = {0}, options = {0};
  size_t mark = lumo_bson_begin(&command);
  lumo_bson_string(&command, LUMO_KEY("aggregate"), "rows", 4);
  lumo_bson_end(&command, mark);
  mark = lumo_bson_begin(&filter);
  lumo_bson_int32(&filter, LUMO_KEY("age"), 3);
  lumo_bson_end(&filter, mark);
  mark = lumo_bson_begin(&update);
  lumo_bson_int32(&update, LUMO_KEY("$inc"), 1);
  lumo_bson_end(&update, mark);
  lumo_bson_int32(&options, LUMO_KEY("comment"), 1);
  lumo_write_plan *plan = NULL;
  if (!filter.failed && !update.failed && !options.failed) {
    lumo_found found = {.source = "rows",
                        .collection = "users",
                        .filter = filter.data,
                        .filter_len = (uint32_t)filter.len,
                        .update = removes ? NULL : update.data,
                        .update_len = removes ? 0 : (uint32_t)update.len,
                        .options = options.data,
                        .options_len = (uint32_t)options.len};
    plan = lumo_found_plan_new("update", &found, &command, error);
    CHECK(command.data == NULL);
  } else {
    lumo_error_memory(error);
  }
  lumo_buf_free(&command);
  lumo_buf_free(&filter);
  lumo_buf_free(&update);
  lumo_buf_free(&options);
  return plan ? &plan->plan : NULL;
}

#define READ "read rows {'aggregate':'rows'}"

static void finds_and_writes(void) {
  lumo_error error;
  lumo_error_init(&error);
  removes = false;
  lumo_plan *plan = make(&error);
  CHECK(plan->atomic && plan->writes);
  for (int round = 0; round < 2; round++) {
    EXPECT(plan, READ);
    FEED(plan, "{'cursor':{'id':{'$numberLong':'7'},'firstBatch':[{'_id':1},{'_id':2}]},'ok':1}");
    EXPECT(plan, "more rows 7");
    FEED(plan, BATCH_OF(0, "{'_id':2},{'_id':'x'}")); /* one that was seen twice is written once */
    EXPECT(plan, "write! users U{'_id':{'$in':[1,2,'x']},'$and':[{'age':3}]},{'$inc':1}");
    FEED(plan, "{'nMatched':3}");
    EXPECT(plan, "done");
    CHECK_INT(
        lumo_reply_count(((lumo_write_plan *)plan)->reply, ((lumo_write_plan *)plan)->reply_len, "nMatched"),
        3);
    if (round == 0) restart_plan(plan);
  }
  end_plan(plan);
}

static void finds_nothing(void) {
  lumo_error error;
  lumo_error_init(&error);
  removes = true;
  lumo_plan *plan = make(&error);
  EXPECT(plan, READ);
  FEED(plan, BATCH(""));
  EXPECT(plan, "done");
  CHECK_INT(
      lumo_reply_count(((lumo_write_plan *)plan)->reply, ((lumo_write_plan *)plan)->reply_len, "nRemoved"),
      0);
  restart_plan(plan);
  EXPECT(plan, READ);
  FEED(plan, BATCH("{'_id':1}"));
  EXPECT(plan, "write! users D{'_id':{'$in':[1]},'$and':[{'age':3}]}");
  restart_plan(plan); /* in the middle of it */
  EXPECT(plan, READ);
  CHECK(!feed_json(plan, "{'ok':1}", false, &error));
  CHECK_TEXT(error.code, strlen(error.code), "E_SERVER");
  lumo_error_reset(&error);
  end_plan(plan);
}

static void options(void) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_step step;
  lumo_statement statement;
  size_t at = 0;
  removes = false;
  lumo_plan *plan = make(&error);
  FEED(plan, BATCH("{'_id':1}"));
  CHECK(plan->class->next(plan, &step, &error));
  CHECK_INT(step.kind, LUMO_STEP_WRITE);
  CHECK(lumo_statement_next(step.statements, &at, &statement));
  CHECK(statement.options != NULL);
  end_plan(plan);
}

int main(void) {
  finds_and_writes();
  finds_nothing();
  options();
  removes = false;
  check_memory(make, (const char *const[]){BATCH("{'_id':1},{'_id':'text'}"), "{'nMatched':2}", NULL});
  return check_report();
}
