// A decoded picture, 8 bit (NV12) or 16 bit with the value in the high bits (P016), to upright 8-bit
// NV12. Turns are counter-clockwise by 90 degrees, as numpy.rot90 counts them.

typedef unsigned char u8;
typedef unsigned short u16;

static __device__ __forceinline__ u8 narrow(u8 value) { return value; }
static __device__ __forceinline__ u8 narrow(u16 value) { return (u8)min((value + 128) >> 8, 255); }

// Source index of output sample (x, y); width and height are the source plane's.
static __device__ __forceinline__ int2 before_turn(int x, int y, int width, int height, int turns) {
    if (turns == 1) return make_int2(width - 1 - y, x);
    if (turns == 2) return make_int2(width - 1 - x, height - 1 - y);
    if (turns == 3) return make_int2(y, height - 1 - x);
    return make_int2(x, y);
}

// source: planes behind one another without row padding; out: the same. blockIdx.z is the plane.
template <typename T>
static __device__ void upright(const T* source, u8* out, int width, int height, int turns) {
    const int plane = blockIdx.z;
    const int in_w = width >> plane, in_h = height >> plane;
    const int out_w = turns % 2 ? in_h : in_w, out_h = turns % 2 ? in_w : in_h;
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= out_w || y >= out_h) return;
    const int2 at = before_turn(x, y, in_w, in_h, turns);
    const size_t from = (size_t)at.y * in_w + at.x, to = (size_t)y * out_w + x;
    if (plane == 0) {
        out[to] = narrow(source[from]);
        return;
    }
    const size_t luma = (size_t)width * height;
    out[luma + 2 * to] = narrow(source[luma + 2 * from]);
    out[luma + 2 * to + 1] = narrow(source[luma + 2 * from + 1]);
}

extern "C" __global__ void upright_u8(const u8* source, u8* out, int width, int height, int turns) {
    upright(source, out, width, height, turns);
}

extern "C" __global__ void upright_u16(
    const u16* source, u8* out, int width, int height, int turns) {
    upright(source, out, width, height, turns);
}
