/* A database operation as a value. A plan yields a step, is fed the step's reply, and yields the next step
 * until it is done; it never talks to a server, never waits, knows no session and no Lua, and may run on any
 * one thread at a time. The runner (driver/run.h) is the only caller of next, feed and restart. */
#ifndef LUMO_CORE_PLAN_H
#define LUMO_CORE_PLAN_H

#include "bson.h"
#include "error.h"

/* ---- steps ---- */

typedef enum {
  LUMO_STEP_READ,    /* a command that returns a cursor: find, aggregate */
  LUMO_STEP_MORE,    /* the next batch of the cursor that the last READ or MORE left open */
  LUMO_STEP_WRITE,   /* a run of insert, update and delete statements; any size, the driver splits it */
  LUMO_STEP_COMMAND, /* anything else */
  LUMO_STEP_PAUSE,   /* a batch is ready for the caller; the runner returns and is called again later */
  LUMO_STEP_DONE,
} lumo_step_kind;

typedef struct lumo_step {
  lumo_step_kind kind;
  const char *collection; /* READ, MORE, WRITE; NULL for a COMMAND on the database */
  const char *database;   /* COMMAND: NULL means the connection's own */
  const uint8_t
      *command; /* READ, COMMAND: the command document, without session, concern or $db; the plan owns it */
  uint32_t command_len;
  bool single;    /* READ: the reply is at most one batch, no cursor can be left (a limit of 1) */
  bool reads;     /* COMMAND: it goes where reads go */
  bool writes;    /* COMMAND: it changes data (findAndModify: retried as a write); else it is sent once, as a
                     command */
  int64_t cursor; /* MORE: the cursor's id */
  int32_t await_ms; /* MORE: how long the server waits for something new, of a cursor that never ends; 0: as
                       it is used to */
  const lumo_buf *statements; /* WRITE: see lumo_statement_… */
  bool ordered;               /* WRITE: stop at the first error */
  bool repeatable; /* WRITE: it comes to the same when it is executed again after it may have been; a reply
                      then may count less than was done */
  bool feed_duplicates; /* WRITE: if every error is a duplicate key (11000), the reply is fed and the plan
                           decides */
} lumo_step;

/* What the server said. Of a READ, MORE or COMMAND the reply document. Of a WRITE the merged reply with the
 * fields nInserted nMatched nModified nRemoved nUpserted, upserted: [{index, _id}], writeErrors: [{index,
 * code, errmsg, keyPattern, keyValue}]; indexes are those of the statements. Data is lumo_malloc'ed; feed may
 * take it by setting `data` to NULL, what it leaves is freed by the runner. */
typedef struct lumo_reply {
  uint8_t *data;
  uint32_t len;
  bool transaction_dead; /* a duplicate key inside a transaction has ended it: after this feed the plan is
                            restarted in a new one */
} lumo_reply;

/* ---- statements of a WRITE: appended to one buffer ---- */

typedef enum {
  LUMO_INSERT = 'i',     /* a document */
  LUMO_UPDATE_ONE = 'u', /* a filter, an update (a document of operators, or an array: a pipeline) */
  LUMO_UPDATE_MANY = 'U',
  LUMO_UPSERT_ONE = 'p', /* an update of one, inserted when absent */
  LUMO_DELETE_ONE = 'd', /* a filter */
  LUMO_DELETE_MANY = 'D',
} lumo_statement_kind;

/* The layout is the kind's byte and then its one or two BSON documents. To write a statement in place: append
 * the kind, then build the document(s) with lumo_bson_begin/end. Options, if any, stand before the kind. */
void lumo_statement_begin(lumo_buf *statements, lumo_statement_kind kind);
/* How the next statement is to be executed, as elements: hint, collation, comment, maxTimeMS. None: nothing.
 */
void lumo_statement_options(lumo_buf *statements, const uint8_t *elements, size_t len);
/* An insert of a document that is not copied: whoever has the plan keeps it, unchanged. */
void lumo_statement_insert_kept(lumo_buf *statements, const uint8_t *document, uint32_t len);

/* Walks statements; *at starts at 0. False at the end. An update that is a pipeline is an array's bytes,
 * known by its keys: no operator is called "0". */
typedef struct lumo_statement {
  lumo_statement_kind kind;
  const uint8_t *filter, *document; /* an insert has only the document, a delete only the filter */
  uint32_t filter_len, document_len;
  const uint8_t *options; /* a document, or NULL */
  uint32_t options_len;
} lumo_statement;
bool lumo_statement_next(const lumo_buf *statements, size_t *at, lumo_statement *out);

/* ---- plans ---- */

typedef struct lumo_plan lumo_plan;

typedef struct lumo_plan_class {
  /* Fills *step. False: the operation has failed, *error says why. Steps point into the plan and hold until
   * the next call. */
  bool (*next)(lumo_plan *plan, lumo_step *step, lumo_error *error);
  bool (*feed)(lumo_plan *plan, lumo_reply *reply, lumo_error *error);
  /* Back to the first command: keeps the input and what was learnt of duplicate keys, forgets all replies. */
  void (*restart)(lumo_plan *plan);
  void (*free)(lumo_plan *plan); /* frees everything, the struct too */
} lumo_plan_class;

/* The head of every plan. */
struct lumo_plan {
  const lumo_plan_class *class;
  char name[32];         /* the operation, for error messages: "attach", "find" */
  bool atomic;           /* to be run in one transaction where the deployment has them */
  bool writes;           /* it is there to change data, whatever it reads first: a failure has an outcome */
  bool asks_version;     /* the runner is to set wire_version before the first step */
  int32_t wire_version;  /* of the server, 17: MongoDB 6.0; 0: not known */
  int32_t least_version; /* older servers do not know what it asks for; 0: all do */
  bool ended; /* it has been run, to its end or a failure: running it once more begins with a restart */
  /* The driver's hold on a client, session and server while a cursor is open; released by the driver, or by
   * lumo_plan_free. */
  void *lease;
  void (*release_lease)(void *lease);
  /* How its commands read and write, a lumo_policy of the driver; NULL: as the connection does. Released by
   * lumo_plan_free. */
  void *policy;
  void (*release_policy)(void *policy);
  /* What it has sent, written down by the driver where somebody wants to know (lumo_plan_watch); NULL: nobody
   * does. Released by lumo_plan_free. */
  void *log;
  void (*release_log)(void *log);
  /* Has its commands explained before they are sent, where somebody wants that (lumo_plan_inspect); NULL:
   * nobody does. Released by lumo_plan_free. */
  void *inspector;
  void (*release_inspector)(void *inspector);
};

/* Sets class and name of a zeroed plan. */
void lumo_plan_init(lumo_plan *plan, const lumo_plan_class *class, const char *name);
#define LUMO_WIRE_JOINS                                                                                      \
  13 /* MongoDB 5.0: the first server that joins by fields and by a pipeline at once                         \
      */
/* E_UNSUPPORTED if the server is known to be too old for the plan. */
bool lumo_plan_suits(const lumo_plan *plan, lumo_error *error);
/* NULL is allowed. Releases the lease first. */
void lumo_plan_free(lumo_plan *plan);

/* ---- plain plans, from which most operations are made ---- */

/* In all of them a buffer that is taken is emptied even on failure. Of a lent one the bytes are copied, in
 * one block with the plan. */

/* Documents of one or more replies, in order; views into the replies that the list owns. */
typedef struct lumo_docs {
  struct lumo_doc {
    const uint8_t *data;
    uint32_t len;
  } * items;
  uint32_t count, capacity;
  uint8_t **replies;
  uint32_t reply_count;
} lumo_docs;
void lumo_docs_free(lumo_docs *docs);
/* Appends a view of bytes that somebody else keeps. False: no memory. */
bool lumo_docs_add(lumo_docs *docs, const uint8_t *data, uint32_t len);
/* Takes the reply of a READ or MORE: appends the views of its batch, gives the cursor's id (0: exhausted). */
bool lumo_docs_take(lumo_docs *docs, lumo_reply *reply, int64_t *cursor, lumo_error *error);

/* A cursor command, or several, one after the other. `command` is taken: the document, or the documents; a
 * second one runs on the collection that its first element names. Not streaming: all batches are gathered,
 * then DONE. Streaming: PAUSE after every batch that is not empty, with only that batch in `docs`; DONE comes
 * with none. Tailing (of a change stream): streaming that pauses after empty batches, too, and knows where to
 * go on. `single` as in the step. */
typedef struct lumo_read_plan {
  lumo_plan plan;
  lumo_buf command;
  size_t at;              /* in `command`: the one that is being run */
  const char *collection; /* of the command that is being run */
  char *first_collection;
  bool single, streaming, tailing;
  int32_t await_ms; /* tailing: as in the step */
  lumo_buf token;   /* tailing: the position behind the last batch, a document; empty: not known */
  lumo_docs docs;
  int64_t cursor;
  enum { LUMO_READ_START, LUMO_READ_OPEN, LUMO_READ_BATCH, LUMO_READ_END } state;
} lumo_read_plan;
lumo_read_plan *lumo_read_plan_new(const char *name, const char *collection, lumo_buf *command, bool single,
                                   bool streaming, lumo_error *error);

/* Makes a streaming plan, not run yet, a tailing one. */
void lumo_read_plan_tail(lumo_read_plan *plan, int32_t await_ms);

/* One run of statements. `statements` is taken. Any write error ends it (E_DUPLICATE_KEY, E_WRITE) by the
 * driver. */
typedef struct lumo_write_plan {
  lumo_plan plan;
  lumo_buf statements;
  char *collection;
  bool ordered, sent;
  bool repeatable; /* as in the step; to be set by who makes the plan */
  uint8_t *reply;  /* the merged reply, as in lumo_reply; owned */
  uint32_t reply_len;
} lumo_write_plan;
lumo_write_plan *lumo_write_plan_new(const char *name, const char *collection, lumo_buf *statements,
                                     bool ordered, bool atomic, lumo_error *error);
/* A counter of the merged reply: "nMatched". 0 when it is not there. */
int64_t lumo_reply_count(const uint8_t *reply, uint32_t len, const char *name);

/* Any other command; its reply is the result. `command` is taken. */
typedef struct lumo_command_plan {
  lumo_plan plan;
  lumo_buf command;
  char *database; /* or NULL */
  bool writes, sent;
  uint8_t *reply;
  uint32_t reply_len;
} lumo_command_plan;
lumo_command_plan *lumo_command_plan_new(const char *name, const char *database, lumo_buf *command,
                                         bool writes, lumo_error *error);

#endif
