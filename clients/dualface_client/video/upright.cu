// A decoded picture, 8 bit (NV12) or 16 bit with the value in the high bits (P016), to upright 8-bit
// NV12. An orientation is the sum of 1 (transpose), then 2 (mirror x) and 4 (mirror y).

typedef unsigned char u8;
typedef unsigned short u16;

static __device__ __forceinline__ u8 narrow(u8 value) { return value; }
static __device__ __forceinline__ u8 narrow(u16 value) { return (u8)min((value + 128) >> 8, 255); }

// Source index of output sample (x, y) of a plane with out_w columns and out_h rows.
static __device__ __forceinline__ int2 before(int x, int y, int out_w, int out_h, int orientation) {
    if (orientation & 2) x = out_w - 1 - x;
    if (orientation & 4) y = out_h - 1 - y;
    return orientation & 1 ? make_int2(y, x) : make_int2(x, y);
}

// source: planes behind one another without row padding; out: the same. blockIdx.z is the plane.
template <typename T>
static __device__ void upright(const T* source, u8* out, int width, int height, int orientation) {
    const int plane = blockIdx.z;
    const int in_w = width >> plane, in_h = height >> plane;
    const int out_w = orientation & 1 ? in_h : in_w, out_h = orientation & 1 ? in_w : in_h;
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= out_w || y >= out_h) return;
    const int2 at = before(x, y, out_w, out_h, orientation);
    const size_t from = (size_t)at.y * in_w + at.x, to = (size_t)y * out_w + x;
    if (plane == 0) {
        out[to] = narrow(source[from]);
        return;
    }
    const size_t luma = (size_t)width * height;
    out[luma + 2 * to] = narrow(source[luma + 2 * from]);
    out[luma + 2 * to + 1] = narrow(source[luma + 2 * from + 1]);
}

extern "C" __global__ void upright_u8(const u8* source, u8* out, int width, int height, int orientation) {
    upright(source, out, width, height, orientation);
}

extern "C" __global__ void upright_u16(
    const u16* source, u8* out, int width, int height, int orientation) {
    upright(source, out, width, height, orientation);
}
