// A V4L2 camera without a kernel module, for LD_PRELOAD: what a program sees of /dev/videoN is answered here.
// The node must exist (any character device). In the folder $V4L2_DRIVER: `videoN` holds what each buffer is filled with
// (a JPEG, or anything else); while there is a file `frozen`, a dequeue does not return. A node that is gone, or another
// one under the same name, is ENODEV for those who hold the old one.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DESCRIPTORS = 1024, BUFFERS = 8, BYTES = 4 << 20, FRAME_US = 66000, LOOK_US = 20000 };

static struct camera {
  char name[32];
  ino_t node;
  struct v4l2_pix_format format;
  unsigned queue[BUFFERS], queued, sequence;
} *cameras[DESCRIPTORS];

static int is_gone(struct camera *camera) {
  char path[64];
  struct stat now;
  snprintf(path, sizeof path, "/dev/%s", camera->name);
  return stat(path, &now) != 0 || now.st_ino != camera->node;
}

static const char *in_folder(const char *name, char *path, size_t size) {
  snprintf(path, size, "%s/%s", getenv("V4L2_DRIVER"), name);
  return path;
}

static int open_camera(const char *path, int node) {
  struct stat status;
  int descriptor = memfd_create("camera", MFD_CLOEXEC);
  struct camera *camera = calloc(1, sizeof *camera);
  fstat(node, &status);
  close(node);
  if (ftruncate(descriptor, (off_t)BUFFERS * BYTES) != 0 || descriptor >= DESCRIPTORS) abort();
  snprintf(camera->name, sizeof camera->name, "%s", path + strlen("/dev/"));
  camera->node = status.st_ino;
  camera->format.pixelformat = V4L2_PIX_FMT_MJPEG;
  camera->format.width = 640, camera->format.height = 480;
  camera->format.sizeimage = BYTES, camera->format.field = V4L2_FIELD_NONE;
  cameras[descriptor] = camera;
  return descriptor;
}

int open64(const char *path, int flags, ...) {
  static int (*next)(const char *, int, ...);
  if (!next) next = dlsym(RTLD_NEXT, "open64");
  va_list rest;
  va_start(rest, flags);
  int descriptor = next(path, flags, va_arg(rest, int));
  va_end(rest);
  return descriptor >= 0 && strncmp(path, "/dev/video", 10) == 0 ? open_camera(path, descriptor) : descriptor;
}

int open(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  int descriptor = open64(path, flags, va_arg(rest, int));
  va_end(rest);
  return descriptor;
}

int close(int descriptor) {
  static int (*next)(int);
  if (!next) next = dlsym(RTLD_NEXT, "close");
  if (descriptor >= 0 && descriptor < DESCRIPTORS && cameras[descriptor]) {
    free(cameras[descriptor]);
    cameras[descriptor] = NULL;
  }
  return next(descriptor);
}

static int dequeue(int descriptor, struct camera *camera, struct v4l2_buffer *buffer) {
  char path[256];
  usleep(FRAME_US);
  while (access(in_folder("frozen", path, sizeof path), F_OK) == 0) usleep(LOOK_US);
  if (cameras[descriptor] != camera || is_gone(camera)) return ENODEV;
  if (camera->queued == 0) return EAGAIN;
  FILE *content = fopen(in_folder(camera->name, path, sizeof path), "rb");
  if (!content) return EIO;
  unsigned index = camera->queue[0];
  memmove(camera->queue, camera->queue + 1, --camera->queued * sizeof *camera->queue);
  void *memory = mmap(NULL, BYTES, PROT_WRITE, MAP_SHARED, descriptor, (off_t)index * BYTES);
  buffer->index = index, buffer->sequence = camera->sequence++, buffer->length = BYTES;
  buffer->bytesused = (unsigned)fread(memory, 1, BYTES, content);
  munmap(memory, BYTES);
  fclose(content);
  return 0;
}

static int answer(int descriptor, struct camera *camera, unsigned long request, void *argument) {
  struct v4l2_buffer *buffer = argument;
  struct v4l2_capability *capability = argument;
  struct v4l2_requestbuffers *wanted = argument;
  if (request == VIDIOC_DQBUF) return dequeue(descriptor, camera, buffer);
  if (is_gone(camera)) return ENODEV;
  switch (request) {
    case VIDIOC_QUERYCAP:
      memset(capability, 0, sizeof *capability);
      snprintf((char *)capability->card, sizeof capability->card, "%s", camera->name);
      capability->capabilities = capability->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
      return 0;
    case VIDIOC_G_FMT:
    case VIDIOC_S_FMT:
    case VIDIOC_TRY_FMT: {
      struct v4l2_format *format = argument;
      if (request != VIDIOC_G_FMT && format->fmt.pix.width) {
        camera->format.width = format->fmt.pix.width, camera->format.height = format->fmt.pix.height;
      }
      format->fmt.pix = camera->format;
      return 0;
    }
    case VIDIOC_REQBUFS:
      if (wanted->memory != V4L2_MEMORY_MMAP) return EINVAL;
      if (wanted->count > BUFFERS) wanted->count = BUFFERS;
      camera->queued = 0;
      return 0;
    case VIDIOC_QUERYBUF:
      buffer->length = BYTES, buffer->m.offset = buffer->index * (unsigned)BYTES;
      return 0;
    case VIDIOC_QBUF:
      if (camera->queued < BUFFERS) camera->queue[camera->queued++] = buffer->index;
      return 0;
    case VIDIOC_STREAMON:
    case VIDIOC_STREAMOFF:
      return 0;
    default:
      return EINVAL;
  }
}

int ioctl(int descriptor, unsigned long request, ...) {
  static int (*next)(int, unsigned long, ...);
  if (!next) next = dlsym(RTLD_NEXT, "ioctl");
  va_list rest;
  va_start(rest, request);
  void *argument = va_arg(rest, void *);
  va_end(rest);
  struct camera *camera = descriptor >= 0 && descriptor < DESCRIPTORS ? cameras[descriptor] : NULL;
  if (!camera) return next(descriptor, request, argument);
  errno = answer(descriptor, camera, (unsigned)request, argument);
  return errno ? -1 : 0;
}
