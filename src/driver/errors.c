/* Failures: libmongoc's error, the server's reply and the trace of the call become one lumo_error. */
#include <stdio.h>
#include <string.h>

#include "../core/mem.h"
#include "private.h"

#define CODE_MAX_TIME_EXPIRED 50
#define CODE_TOO_LARGE_FOR_CACHE 388

static bool is_one_of(int32_t code, const int32_t *codes, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (codes[i] == code) return true;
  return false;
}
#define IS_ONE_OF(code, ...)                                                                                 \
  is_one_of((code), (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static bool is_duplicate(int32_t code) {
  return IS_ONE_OF(code, 11000, 11001, 12582);
}

/* The server is going away, or is not, or no longer, the primary: another attempt finds the next one. */
static bool is_state_change(int32_t code) {
  return IS_ONE_OF(code, 6, 7, 91, 189, 9001, 10107, 11600, 11602, 13388, 13435, 13436);
}

bool lumo_code_refuses(int32_t code) {
  return IS_ONE_OF(code, 10107, 13435);
}

bool lumo_code_interrupts(int32_t code) {
  return IS_ONE_OF(code, CODE_MAX_TIME_EXPIRED, 91, 189, 237, 262, 279, 11600, 11601, 11602);
}

/* Between choosing a server and writing the command its description can be dropped by another thread's
 * failure; libmongoc has no code for it. */
static bool is_invalidated(const bson_error_t *error) {
  return error->domain == MONGOC_ERROR_COMMAND &&
         strncmp(error->message, "Cannot assemble command for inval", 33) == 0;
}

bool lumo_error_is_selection(const bson_error_t *error) {
  /* A server that has refused a password is not chosen for a while; the reason is then only in the text. */
  return error->domain == MONGOC_ERROR_SERVER_SELECTION && !strstr(error->message, "Authentication failed");
}

static bool is_network(const bson_error_t *error) {
  return error->domain == MONGOC_ERROR_STREAM || is_invalidated(error) ||
         (error->domain == MONGOC_ERROR_PROTOCOL && error->code == MONGOC_ERROR_PROTOCOL_INVALID_REPLY);
}

/* The failure that counts: that of a whole command before that of single statements, which
 * libmongoc prefers. */
static const bson_error_t *cause_of(const lumo_answer *answer) {
  return answer->trace.failed ? &answer->trace.error : &answer->error;
}

/* ---- the reply ---- */

static bool find(const lumo_answer *answer, const char *name, lumo_value *out) {
  return answer->has_reply &&
         lumo_bson_find(bson_get_data(&answer->reply), answer->reply.len, name, strlen(name), out);
}

static bool find_in(const lumo_value *document, const char *name, lumo_value *out) {
  return document->type == LUMO_BSON_DOCUMENT &&
         lumo_bson_find(document->data, document->len, name, strlen(name), out);
}

static int32_t code_in(const lumo_value *document) {
  lumo_value v;
  return find_in(document, "code", &v) && v.type == LUMO_BSON_INT32 ? lumo_value_int32(&v) : 0;
}

/* The first document of an array field; false when there is none. */
static bool first_of(const lumo_answer *answer, const char *name, lumo_value *out) {
  lumo_value list;
  lumo_iter it;
  if (!find(answer, name, &list) || list.type != LUMO_BSON_ARRAY || !lumo_iter_value(&it, &list) ||
      !lumo_iter_next(&it) || it.value.type != LUMO_BSON_DOCUMENT)
    return false;
  *out = it.value;
  return true;
}

static bool write_concern_error(const lumo_answer *answer, lumo_value *out) {
  return first_of(answer, "writeConcernErrors", out) ||
         (find(answer, "writeConcernError", out) && out->type == LUMO_BSON_DOCUMENT);
}

bool lumo_answer_refused(lumo_answer *answer) {
  lumo_value detail;
  if (first_of(answer, "writeErrors", &detail))
    answer->error.domain = MONGOC_ERROR_SERVER;
  else if (write_concern_error(answer, &detail))
    answer->error.domain = MONGOC_ERROR_WRITE_CONCERN;
  else
    return false;
  answer->error.code = (uint32_t)code_in(&detail);
  answer->error.message[0] = '\0';
  return true;
}

bool lumo_answer_duplicates_only(const lumo_answer *answer) {
  lumo_value errors, other;
  lumo_iter it;
  if (answer->trace.failed || write_concern_error(answer, &other) || !find(answer, "writeErrors", &errors) ||
      errors.type != LUMO_BSON_ARRAY || !lumo_iter_value(&it, &errors))
    return false;
  bool any = false;
  while (lumo_iter_next(&it)) {
    if (!is_duplicate(code_in(&it.value))) return false;
    any = true;
  }
  /* A server that could not be reached for a later command of the write leaves an error of its own beside
   * these. */
  return any && !it.bad && answer->error.domain == MONGOC_ERROR_SERVER &&
         is_duplicate((int32_t)answer->error.code);
}

bool lumo_answer_unavailable(const lumo_answer *answer) {
  const bson_error_t *cause = cause_of(answer);
  /* A write concern, too, fails when the primary steps down; what was written may be gone with it. */
  bool of_server = cause->domain == MONGOC_ERROR_SERVER || cause->domain == MONGOC_ERROR_WRITE_CONCERN;
  return is_network(cause) || (of_server && is_state_change((int32_t)cause->code));
}

/* ---- what it is called ---- */

static const char *class_of_server_code(int32_t code, bool of_statement) {
  if (is_duplicate(code)) return "E_DUPLICATE_KEY";
  if (IS_ONE_OF(code, CODE_MAX_TIME_EXPIRED, 89, 202, 262)) return "E_TIMEOUT";
  if (IS_ONE_OF(code, 11, 13, 18, 8000)) return "E_AUTH";
  if (IS_ONE_OF(code, 115, 238, 263, 40324)) return "E_UNSUPPORTED";
  return of_statement ? "E_WRITE" : "E_SERVER";
}

static const char *class_of(const lumo_answer *answer, const bson_error_t *cause, bool of_statement) {
  if (cause->domain == MONGOC_ERROR_SERVER) return class_of_server_code((int32_t)cause->code, of_statement);
  if (answer->trace.timed_out) return "E_TIMEOUT";
  if (lumo_error_is_selection(cause) || is_network(cause)) return "E_NETWORK";
  if (cause->domain == MONGOC_ERROR_SERVER_SELECTION) return "E_AUTH";
  if (cause->code == MONGOC_ERROR_PROTOCOL_BAD_WIRE_VERSION &&
      (cause->domain == MONGOC_ERROR_PROTOCOL || cause->domain == MONGOC_ERROR_COMMAND))
    return "E_UNSUPPORTED";
  switch (cause->domain) {
  case MONGOC_ERROR_WRITE_CONCERN:
  case MONGOC_ERROR_BSON: /* larger than the server takes: libmongoc sends nothing of it */ return "E_WRITE";
  case MONGOC_ERROR_SCRAM:
  case MONGOC_ERROR_SASL: return "E_AUTH";
  case MONGOC_ERROR_CLIENT:
    return cause->code == MONGOC_ERROR_CLIENT_AUTHENTICATE ? "E_AUTH" : "E_UNSUPPORTED";
  case MONGOC_ERROR_COMMAND: /* refused by libmongoc before it was sent */ return "E_ARGUMENT";
  default: return "E_SERVER";
  }
}

static bool is_retryable(const lumo_error *error, const bson_error_t *cause) {
  if (strcmp(error->code, "E_NETWORK") == 0 || strcmp(error->code, "E_TIMEOUT") == 0) return true;
  if (error->labels & (LUMO_LABEL_TRANSIENT | LUMO_LABEL_RETRYABLE | LUMO_LABEL_RESUMABLE)) return true;
  return cause->domain == MONGOC_ERROR_SERVER &&
         (is_state_change((int32_t)cause->code) || cause->code == 112);
}

static uint32_t labels_of(const lumo_answer *answer) {
  static const struct {
    const char *name;
    uint32_t bit;
  } labels[] = {{"TransientTransactionError", LUMO_LABEL_TRANSIENT},
                {"UnknownTransactionCommitResult", LUMO_LABEL_UNKNOWN_COMMIT},
                {"RetryableWriteError", LUMO_LABEL_RETRYABLE},
                {"ResumableChangeStreamError", LUMO_LABEL_RESUMABLE}};
  uint32_t bits = 0;
  for (size_t i = 0; answer->has_reply && i < sizeof labels / sizeof *labels; i++)
    if (mongoc_error_has_label(&answer->reply, labels[i].name)) bits |= labels[i].bit;
  return bits;
}

/* ---- what became of it ---- */

bool lumo_reply_changed(const uint8_t *reply, uint32_t len) {
  static const char *const counters[] = {"nInserted", "nModified", "nRemoved", "nUpserted"};
  for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
    if (lumo_reply_count(reply, len, counters[i]) > 0) return true;
  return false;
}

/* Of a failure that has itself changed nothing. */
static lumo_outcome outcome_before(const lumo_context *context) {
  if (context->written && !context->in_transaction)
    return LUMO_APPLIED; /* a part of the operation is there */
  return context->writes || context->written || context->to_write ? LUMO_NOT_APPLIED : LUMO_OUTCOME_NONE;
}

static lumo_outcome outcome_of(const lumo_answer *answer, const lumo_context *context,
                               const bson_error_t *cause) {
  if (context->in_transaction) return outcome_before(context);
  if (cause->domain == MONGOC_ERROR_WRITE_CONCERN)
    return LUMO_APPLIED; /* here, though not on as many servers as was asked for */
  if (!context->writes) return outcome_before(context);
  if (answer->trace.lost) return LUMO_UNKNOWN;
  lumo_value v;
  /* no counters: libmongoc drops them when the server for a later command is not found */
  if (!find(answer, "nInserted", &v) && answer->trace.answered > 0) return LUMO_UNKNOWN;
  if (answer->has_reply && lumo_reply_changed(bson_get_data(&answer->reply), answer->reply.len))
    return LUMO_APPLIED; /* of several statements some were */
  if (context->many && answer->trace.answered > 0)
    return LUMO_UNKNOWN; /* the counters leave out what a statement has changed before it failed */
  return outcome_before(context);
}

/* ---- words ---- */

static void copy_text(char *to, size_t size, const char *from) {
  snprintf(to, size, "%s", from ? from : "");
}

static void set_place(lumo_error *error, const lumo_context *context) {
  if (!error->op[0]) copy_text(error->op, sizeof error->op, context->op);
  if (error->ns[0]) return;
  if (context->collection && *context->collection)
    snprintf(error->ns, sizeof error->ns, "%s.%s", context->database, context->collection);
  else
    copy_text(error->ns, sizeof error->ns, context->database);
}

static void set_cause(lumo_error *error, const bson_error_t *cause, const lumo_value *detail) {
  lumo_value text;
  uint32_t len;
  if (find_in(detail, "errmsg", &text) && text.type == LUMO_BSON_STRING)
    copy_text(error->cause, sizeof error->cause,
              lumo_value_text(&text, &len)); /* libmongoc cuts it at half the length */
  else
    copy_text(error->cause, sizeof error->cause, cause->message);
}

/* Which index refused what, where the server says so (4.4 and later). */
static void set_key(lumo_error *error, const lumo_value *detail) {
  lumo_value pattern, value;
  lumo_iter it;
  if (find_in(detail, "keyPattern", &pattern) && lumo_iter_value(&it, &pattern)) {
    size_t len = 0;
    while (lumo_iter_next(&it) && len + it.key_len + 3 < sizeof error->key)
      len += (size_t)snprintf(error->key + len, sizeof error->key - len, "%s%s", len ? ", " : "", it.key);
  }
  if (find_in(detail, "keyValue", &value) && value.type == LUMO_BSON_DOCUMENT &&
      (error->value = lumo_malloc(value.len))) {
    memcpy(error->value, value.data, value.len);
    error->value_len = value.len;
  }
}

static void describe_code(char *text, size_t size, const lumo_error *error, const char *code_name) {
  if (error->server_code)
    snprintf(text, size, " (%s%scode %d)", code_name, *code_name ? ", " : "", (int)error->server_code);
  else
    *text = '\0';
}

static void set_message(lumo_error *error, const char *code, const lumo_answer *answer,
                        const bson_error_t *cause, const char *code_name) {
  char what[400], suffix[80];
  describe_code(suffix, sizeof suffix, error, code_name);
  if (strcmp(code, "E_DUPLICATE_KEY") == 0)
    snprintf(what, sizeof what,
             error->key[0] ? "a unique index refused it: duplicate %s" : "a unique index refused it%s",
             error->key);
  else if (strcmp(code, "E_TIMEOUT") == 0 && error->server_code)
    snprintf(what, sizeof what, "the time limit on the server ran out%s", suffix);
  else if (strcmp(code, "E_TIMEOUT") == 0)
    snprintf(what, sizeof what, "no answer within %d ms", (int)answer->trace.connection->socket_timeout_ms);
  else if (strcmp(code, "E_NETWORK") == 0 && cause->domain == MONGOC_ERROR_SERVER_SELECTION)
    snprintf(what, sizeof what, "no server that can serve it was reached in time");
  else if (strcmp(code, "E_NETWORK") == 0)
    snprintf(what, sizeof what, "the connection to the server failed");
  else if (strcmp(code, "E_AUTH") == 0)
    snprintf(what, sizeof what, error->server_code == 13 ? "not authorized%s" : "authentication failed%s",
             suffix);
  else if (cause->domain == MONGOC_ERROR_WRITE_CONCERN)
    snprintf(what, sizeof what, "written, but the write concern was not met%s", suffix);
  else if (cause->domain == MONGOC_ERROR_BSON)
    snprintf(what, sizeof what, "a document is larger than the server takes");
  else if (strcmp(code, "E_UNSUPPORTED") == 0)
    snprintf(what, sizeof what, "the server does not support it%s", suffix);
  else if (error->server_code == CODE_TOO_LARGE_FOR_CACHE)
    snprintf(what, sizeof what,
             "the transaction is larger than the server's cache allows; smaller portions help, or a relation "
             "with atomic = false");
  else if (error->write_index >= 0)
    snprintf(what, sizeof what, "the server refused statement %d%s", (int)error->write_index, suffix);
  else
    snprintf(what, sizeof what, "the server refused it%s", suffix);
  lumo_error_set(error, code, "%s on \"%s\": %s", error->op, error->ns, what);
}

void lumo_error_classify(lumo_error *error, const lumo_answer *answer, const lumo_context *context) {
  const bson_error_t *cause = cause_of(answer);
  lumo_value detail = {0}, index;
  const char *code_name = answer->trace.failed ? answer->trace.code_name : "";
  bool of_statement = !answer->trace.failed && first_of(answer, "writeErrors", &detail);
  lumo_error_reset(error);
  set_place(error, context);
  if (!of_statement && cause->domain == MONGOC_ERROR_WRITE_CONCERN)
    write_concern_error(answer, &detail);
  else if (!of_statement && answer->has_reply && !find(answer, "nInserted", &index))
    detail = (lumo_value){bson_get_data(&answer->reply), answer->reply.len, LUMO_BSON_DOCUMENT};
  if (cause->domain == MONGOC_ERROR_SERVER || cause->domain == MONGOC_ERROR_WRITE_CONCERN)
    error->server_code = (int32_t)cause->code;
  if (of_statement && find_in(&detail, "index", &index) && index.type == LUMO_BSON_INT32)
    error->write_index = lumo_value_int32(&index);
  error->labels = labels_of(answer);
  error->outcome = outcome_of(answer, context, cause);
  set_cause(error, cause, &detail);
  const char *code = class_of(answer, cause, of_statement);
  if (strcmp(code, "E_DUPLICATE_KEY") == 0) set_key(error, &detail);
  set_message(error, code, answer, cause, code_name);
  error->retryable = is_retryable(error, cause);
}

void lumo_error_complete(lumo_error *error, const lumo_context *context) {
  set_place(error, context);
  if (error->outcome == LUMO_OUTCOME_NONE) error->outcome = outcome_before(context);
}
