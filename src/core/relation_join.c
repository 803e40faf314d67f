/* The hash join of parents, pivot rows and related records. */
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "relation_plan.h"

#define NO_KEY UINT32_MAX

/* The pairs (document, joint) of one key are the product of two lists. The outer side is walked in its order,
 * the inner one by chains, one per key. */
typedef struct join {
  const related_plan *plan;
  bool documents_outside;
  uint32_t *document_keys; /* beside the documents; NO_KEY: none */
  uint32_t *first;         /* per key: the first of the inner side, + 1 */
  uint32_t *next;          /* beside the inner side: the one after it, + 1 */
  uint32_t *counts;        /* rows per owner, then the place of its next row */
  uint64_t total;
} join;

static uint32_t side_count(const join *j, bool documents) {
  return documents ? j->plan->head.documents.count : j->plan->joint_count;
}

static uint32_t side_key(const join *j, bool documents, uint32_t index) {
  return documents ? j->document_keys[index] : j->plan->joints[index].key;
}

static void find_document_keys(join *j) {
  const related_plan *plan = j->plan;
  const char *key = plan->join_key;
  for (uint32_t i = 0; i < plan->head.documents.count; i++) {
    const struct lumo_doc *document = &plan->head.documents.items[i];
    lumo_value value;
    lumo_bson_find(document->data, document->len, key, strlen(key), &value);
    int64_t found = lumo_keys_find(&plan->keys, &value);
    j->document_keys[i] = found < 0 ? NO_KEY : (uint32_t)found;
  }
}

/* From the end, so that each chain runs forward. */
static void chain_inner(join *j) {
  bool documents = !j->documents_outside;
  for (uint32_t i = side_count(j, documents); i-- > 0;) {
    uint32_t key = side_key(j, documents, i);
    if (key == NO_KEY) continue;
    j->next[i] = j->first[key];
    j->first[key] = i + 1;
  }
}

/* Walks all pairs, owners mixed. Without rows it counts; with rows it puts each pair into its owner's place.
 */
static void walk_pairs(join *j, lumo_related_row *rows) {
  bool outside = j->documents_outside;
  for (uint32_t i = 0; i < side_count(j, outside); i++) {
    uint32_t key = side_key(j, outside, i);
    if (key == NO_KEY) continue;
    for (uint32_t inner = j->first[key]; inner != 0; inner = j->next[inner - 1]) {
      uint32_t document = outside ? i : inner - 1;
      const joint *of = &j->plan->joints[outside ? inner - 1 : i];
      uint32_t *count = &j->counts[of->owner];
      if (rows)
        rows[*count] = (lumo_related_row){of->owner, document, of->pivot};
      else
        j->total++;
      (*count)++;
    }
  }
}

/* A counting sort by owner. */
static bool make_rows(related_plan *plan, join *j) {
  find_document_keys(j);
  chain_inner(j);
  walk_pairs(j, NULL);
  if (j->total > UINT32_MAX) return false;
  lumo_related_row *rows = lumo_malloc((size_t)j->total * sizeof *rows);
  if (!rows) return false;
  lumo_free(plan->head.rows);
  plan->head.rows = rows;
  uint32_t place = 0;
  for (uint32_t i = 0; i < plan->owners.count; i++) {
    uint32_t count = j->counts[i];
    j->counts[i] = place;
    place += count;
  }
  walk_pairs(j, rows);
  plan->head.row_count = place;
  return true;
}

static int by_document(const void *a, const void *b) {
  const lumo_related_row *one = a, *two = b;
  if (one->document != two->document) return one->document < two->document ? -1 : 1;
  return one->pivot < two->pivot ? -1 : one->pivot > two->pivot;
}

static int by_pivot(const void *a, const void *b) {
  const lumo_related_row *one = a, *two = b;
  if (one->pivot != two->pivot) return one->pivot < two->pivot ? -1 : 1;
  return one->document < two->document ? -1 : one->document > two->document;
}

void lumo_related_cut(related_plan *plan) {
  lumo_related_row *rows = plan->head.rows;
  uint64_t skip = (uint64_t)plan->query.skip,
           limit = plan->query.limit ? (uint64_t)plan->query.limit : UINT32_MAX;
  uint32_t kept = 0, from, to;
  bool reorders = plan->show.document && plan->show.sides != plan->cut.sides;
  for (from = 0; from < plan->head.row_count; from = to) {
    for (to = from; to < plan->head.row_count && rows[to].owner == rows[from].owner; to++) continue;
    uint64_t count = to - from;
    uint64_t first = skip < count ? skip : count, left = count - first < limit ? count - first : limit;
    memmove(rows + kept, rows + from + first, left * sizeof *rows);
    if (reorders && left > 1)
      qsort(rows + kept, left, sizeof *rows, plan->show.sides == LUMO_SIDE_RELATED ? by_document : by_pivot);
    kept += (uint32_t)left;
  }
  plan->head.row_count = kept;
}

bool lumo_related_join(related_plan *plan) {
  join j = {.plan = plan, .documents_outside = plan->related_order != NULL};
  if (plan->cuts && plan->cut.sides == LUMO_SIDE_PIVOT) j.documents_outside = false;
  uint32_t inner = side_count(&j, !j.documents_outside);
  j.document_keys = lumo_malloc(plan->head.documents.count * sizeof *j.document_keys);
  j.first = lumo_calloc(plan->keys.count, sizeof *j.first);
  j.next = lumo_malloc(inner * sizeof *j.next);
  j.counts = lumo_calloc(plan->owners.count, sizeof *j.counts);
  bool enough = j.document_keys && j.first && j.next && j.counts && make_rows(plan, &j);
  lumo_free(j.document_keys);
  lumo_free(j.first);
  lumo_free(j.next);
  lumo_free(j.counts);
  return enough;
}

/* ---- orphans among the first rows ---- */

static bool is_short(const related_plan *plan, uint32_t joints, uint32_t rows) {
  return joints >= plan->query.limit && rows < plan->query.limit;
}

static bool collect_short(related_plan *plan, uint32_t *joints, uint32_t *rows) {
  uint32_t kept = 0, index;
  for (uint32_t i = 0; i < plan->joint_count; i++) joints[plan->joints[i].owner]++;
  for (uint32_t i = 0; i < plan->head.row_count; i++) rows[plan->head.rows[i].owner]++;
  for (uint32_t i = 0; i < plan->owners.count; i++) {
    lumo_value owner = lumo_keys_at(&plan->owners, i);
    if (is_short(plan, joints[i], rows[i]) && lumo_keys_add(&plan->again, &owner, &index) < 0) return false;
  }
  for (uint32_t i = 0; i < plan->joint_count; i++) {
    uint32_t owner = plan->joints[i].owner;
    if (!is_short(plan, joints[owner], rows[owner])) plan->joints[kept++] = plan->joints[i];
  }
  plan->joint_count = kept;
  return true;
}

bool lumo_related_find_short(related_plan *plan) {
  uint32_t *joints = lumo_calloc(plan->owners.count, sizeof *joints);
  uint32_t *rows = lumo_calloc(plan->owners.count, sizeof *rows);
  bool enough = joints && rows && collect_short(plan, joints, rows);
  lumo_free(joints);
  lumo_free(rows);
  return enough;
}
