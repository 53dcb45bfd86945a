/* A delegate library for tests, by the interface of TensorFlow Lite's external delegates. What it does is chosen when it
 * is compiled: -DCRASH, -DHANG, -DREFUSE, -DIDLE, or none of these: it works. -DWRONG: its results are wrong.
 * -DCRASH_AFTER=n, -DHANG_AFTER=n: it works n times in a process and then crashes, or makes -DHANG_FILE and never returns.
 * It takes one node, the model's last MAX_POOL_2D.
 *
 * The structs are the leading fields of those in tensorflow/lite/core/c/common.h, which is an interface that C programs
 * are compiled against.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

enum { BUILTIN_MAX_POOL_2D = 17 };

typedef struct { int size; int data[]; } IntArray;
typedef struct {
  int type;
  int8_t *data;
  IntArray *dims;
  float scale;
  int32_t zero_point;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  void *delegate;
  int buffer_handle;
  _Bool data_is_stale, is_variable;
  struct { int type; void *params; } quantization;
  void *sparsity;
  const IntArray *dims_signature;
} Tensor;
typedef struct { IntArray *inputs, *outputs; } Node;
typedef struct Context Context;
typedef struct Delegate Delegate;
typedef struct {
  void *(*init)(Context *, const char *, size_t);
  void (*free)(Context *, void *);
  int (*prepare)(Context *, Node *);
  int (*invoke)(Context *, Node *);
  const char *(*profiling_string)(const Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *later_fields[8];
} Registration;
struct Context {
  size_t tensors_size;
  int (*get_execution_plan)(Context *, IntArray **);
  Tensor *tensors;
  void *impl;
  int (*resize_tensor)(Context *, Tensor *, IntArray *);
  void (*report_error)(Context *, const char *, ...);
  int (*add_tensors)(Context *, int, int *);
  int (*get_node)(Context *, int, Node **, Registration **);
  int (*replace_nodes)(Context *, Registration, const IntArray *, Delegate *);
};
struct Delegate {
  void *data;
  int (*prepare)(Context *, Delegate *);
  void *copy_from, *copy_to, *free_handle;
  int64_t flags;
  void *builder;
};

static void crash(void) { *(volatile int *)(uintptr_t)-8 = 1; }

static int kernel_prepare(Context *context, Node *node) { return 0; }

/* 2 x 2 maxima, stride 2, no padding; int8, NHWC. */
static int kernel_invoke(Context *context, Node *node) {
  Tensor *in = &context->tensors[node->inputs->data[0]], *out = &context->tensors[node->outputs->data[0]];
  int width = in->dims->data[2], depth = in->dims->data[3];
  int out_height = out->dims->data[1], out_width = out->dims->data[2];
  static int invocations = 0;
  invocations++;
#ifdef CRASH_AFTER
  if (invocations > CRASH_AFTER) crash();
#endif
#ifdef HANG_AFTER
  while (invocations > HANG_AFTER) close(creat(HANG_FILE, 0600)), sleep(1);
#endif
  for (int y = 0; y < out_height; y++)
    for (int x = 0; x < out_width; x++)
      for (int c = 0; c < depth; c++) {
        int8_t most = -128;
        for (int i = 0; i < 4; i++) {
          int8_t value = in->data[((2 * y + i / 2) * width + 2 * x + i % 2) * depth + c];
          if (value > most) most = value;
        }
#ifdef WRONG
        most = (int8_t)~most;
#endif
        out->data[(y * out_width + x) * depth + c] = most;
      }
  return 0;
}

static int prepare(Context *context, Delegate *delegate) {
#ifndef IDLE
  struct { int size; int data[1]; } nodes = {0, {0}};
  IntArray *plan;
  context->get_execution_plan(context, &plan);
  for (int i = 0; i < plan->size; i++) {
    Node *node;
    Registration *registration;
    context->get_node(context, plan->data[i], &node, &registration);
    if (registration->builtin_code == BUILTIN_MAX_POOL_2D) nodes.size = 1, nodes.data[0] = plan->data[i];
  }
  Registration kernel = {.prepare = kernel_prepare, .invoke = kernel_invoke, .custom_name = "TestPool", .version = 1};
  if (nodes.size) return context->replace_nodes(context, kernel, (IntArray *)&nodes, delegate);
#endif
  return 0;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
#ifdef CRASH
  crash();
#endif
#ifdef HANG
  for (;;) sleep(1);
#endif
#ifdef REFUSE
  report("no device of this kind is plugged in");
  return NULL;
#endif
  Delegate *delegate = calloc(1, sizeof *delegate);
  delegate->prepare = prepare;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
