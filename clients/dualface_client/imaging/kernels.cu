// Pixel kernels. The sampling rules are those of imaging/geometry.py; the parameter structs are laid
// out again in imaging/cuda_structs.py. Every coordinate that leaves a picture is clamped to its
// border.

typedef unsigned char u8;

struct Picture {
    const u8* y;
    const u8* uv;
    int y_pitch;   // bytes from row to row
    int uv_pitch;
    int width;     // luma samples
    int height;
};

static __device__ __forceinline__ int clamp_to(int value, int low, int high) {
    return min(max(value, low), high);
}

static __device__ __forceinline__ u8 to_u8(float value) {
    return (u8)clamp_to(__float2int_rn(value), 0, 255);
}

static __device__ __forceinline__ float luma_at(const Picture& p, int x, int y) {
    x = clamp_to(x, 0, p.width - 1);
    y = clamp_to(y, 0, p.height - 1);
    return p.y[(size_t)y * p.y_pitch + x];
}

static __device__ __forceinline__ float2 chroma_at(const Picture& p, int x, int y) {
    x = clamp_to(x, 0, p.width / 2 - 1);
    y = clamp_to(y, 0, p.height / 2 - 1);
    const uchar2 c = *(const uchar2*)(p.uv + (size_t)y * p.uv_pitch + 2 * x);
    return make_float2(c.x, c.y);
}

// m: 3 x 4, from Y, Cb, Cr, 1.
static __device__ __forceinline__ void write_rgb(u8* out, const float* m, float y, float2 c) {
#pragma unroll
    for (int k = 0; k < 3; ++k)
        out[k] = to_u8(m[4 * k] * y + m[4 * k + 1] * c.x + m[4 * k + 2] * c.y + m[4 * k + 3]);
}

static __device__ __forceinline__ float2 mix(float2 a, float2 b, float share_of_a) {
    const float share_of_b = 1.f - share_of_a;
    return make_float2(share_of_a * a.x + share_of_b * b.x, share_of_a * a.y + share_of_b * b.y);
}

// How much of cell [k, k + 1) lies in [low, high).
static __device__ __forceinline__ float overlap(int k, float low, float high) {
    return fmaxf(0.f, fminf(high, k + 1.f) - fmaxf(low, (float)k));
}

// One axis of a resize by `step` source samples per output sample.
struct Axis {
    int first;
    int last;
    float low;
    float high;
    bool shrinks;

    __device__ __forceinline__ Axis(int output, float step, int size) {
        shrinks = step > 1.f;
        if (shrinks) {
            low = output * step;
            high = fminf(low + step, (float)size);
            first = (int)floorf(low);
            last = min((int)ceilf(high) - 1, size - 1);
        } else {
            low = (output + 0.5f) * step - 0.5f;
            first = (int)floorf(low);
            last = first + 1;
            high = low - first;
        }
    }

    __device__ __forceinline__ float weight(int k) const {
        if (shrinks) return overlap(k, low, high) / (high - low);
        return k == first ? 1.f - high : high;
    }
};

struct LetterboxArgs {
    Picture source;
    u8* out;
    int out_pitch;
    int out_width;
    int out_height;
    int x, y, width, height;  // the content, even
    float rgb[12];
};

// Pictures of one launch, one for each blockIdx.z.
const int BATCH = 16;

struct LetterboxBatch {
    LetterboxArgs items[BATCH];
};

static __device__ float resized_luma(const LetterboxArgs& a, int x, int y) {
    const Axis h(x, (float)a.source.width / a.width, a.source.width);
    const Axis v(y, (float)a.source.height / a.height, a.source.height);
    float sum = 0.f;
    for (int j = v.first; j <= v.last; ++j) {
        float row = 0.f;
        for (int i = h.first; i <= h.last; ++i) row += h.weight(i) * luma_at(a.source, i, j);
        sum += v.weight(j) * row;
    }
    return rintf(sum);
}

static __device__ float2 resized_chroma(const LetterboxArgs& a, int x, int y) {
    x = clamp_to(x, 0, a.width / 2 - 1);
    y = clamp_to(y, 0, a.height / 2 - 1);
    const Axis h(x, (float)a.source.width / a.width, a.source.width / 2);
    const Axis v(y, (float)a.source.height / a.height, a.source.height / 2);
    float2 sum = make_float2(0.f, 0.f);
    for (int j = v.first; j <= v.last; ++j) {
        for (int i = h.first; i <= h.last; ++i) {
            const float w = v.weight(j) * h.weight(i);
            const float2 c = chroma_at(a.source, i, j);
            sum.x += w * c.x;
            sum.y += w * c.y;
        }
    }
    return make_float2(rintf(sum.x), rintf(sum.y));
}

// One thread makes a block of 2 x 2 output pixels: they share nine chroma samples.
extern "C" __global__ void letterbox(const __grid_constant__ LetterboxBatch batch) {
    const LetterboxArgs& a = batch.items[blockIdx.z];
    const int bx = blockIdx.x * blockDim.x + threadIdx.x;
    const int by = blockIdx.y * blockDim.y + threadIdx.y;
    const int x0 = 2 * bx, y0 = 2 * by;
    if (x0 >= a.out_width || y0 >= a.out_height) return;
    const bool inside = x0 >= a.x && x0 < a.x + a.width && y0 >= a.y && y0 < a.y + a.height;
    if (!inside) {
        for (int j = 0; j < 2; ++j)
            for (int i = 0; i < 6; ++i) a.out[(size_t)(y0 + j) * a.out_pitch + 3 * x0 + i] = 0;
        return;
    }
    const int cx = (x0 - a.x) / 2, cy = (y0 - a.y) / 2;
    float2 cells[3][3];
#pragma unroll
    for (int j = 0; j < 3; ++j)
#pragma unroll
        for (int i = 0; i < 3; ++i) cells[j][i] = resized_chroma(a, cx + i - 1, cy + j - 1);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            // An output sample lies a quarter of a half-size sample beside the nearer one.
            const float first_x = i ? 0.75f : 0.25f, first_y = j ? 0.75f : 0.25f;
            float2 c = mix(mix(cells[j][i], cells[j][i + 1], first_x),
                           mix(cells[j + 1][i], cells[j + 1][i + 1], first_x), first_y);
            c.x = rintf(c.x);
            c.y = rintf(c.y);
            const float luma = resized_luma(a, x0 - a.x + i, y0 - a.y + j);
            write_rgb(a.out + (size_t)(y0 + j) * a.out_pitch + 3 * (x0 + i), a.rgb, luma, c);
        }
    }
}

struct ThumbnailArgs {
    Picture source;
    u8* out;  // rows without padding
    int width;
    int height;
};

struct ThumbnailBatch {
    ThumbnailArgs items[BATCH];
};

// One block per cell, 128 threads: the mean luma of the part of the picture it stands for.
extern "C" __global__ void thumbnail(const __grid_constant__ ThumbnailBatch batch) {
    const ThumbnailArgs& a = batch.items[blockIdx.z];
    __shared__ float sums[4];
    const Axis h(blockIdx.x, (float)a.source.width / a.width, a.source.width);
    const Axis v(blockIdx.y, (float)a.source.height / a.height, a.source.height);
    const int columns = h.last - h.first + 1, count = columns * (v.last - v.first + 1);
    float sum = 0.f;
    for (int n = threadIdx.x; n < count; n += 128) {
        const int i = h.first + n % columns, j = v.first + n / columns;
        sum += h.weight(i) * v.weight(j) * luma_at(a.source, i, j);
    }
    for (int offset = 16; offset; offset /= 2) sum += __shfl_down_sync(~0u, sum, offset);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0)
        a.out[blockIdx.y * a.width + blockIdx.x] = to_u8(sums[0] + sums[1] + sums[2] + sums[3]);
}

// Sampling matrix of the finer grid whose block means are the output samples.
struct Warp {
    float m[6];
    int samples;  // per axis and output sample
};

struct ChipArgs {
    Picture source;
    u8* out;
    int out_pitch;
    int size;
    Warp luma;
    Warp chroma;
    float rgb[12];
};

struct Bilinear {
    int x, y;
    float fx, fy;

    __device__ __forceinline__ Bilinear(const Warp& warp, int i, int j) {
        const float px = warp.m[0] * i + warp.m[1] * j + warp.m[2];
        const float py = warp.m[3] * i + warp.m[4] * j + warp.m[5];
        x = (int)floorf(px);
        y = (int)floorf(py);
        fx = px - x;
        fy = py - y;
    }
};

static __device__ float chip_luma(const ChipArgs& a, int x, int y) {
    const int n = a.luma.samples;
    float sum = 0.f;
    for (int j = 0; j < n; ++j) {
        for (int i = 0; i < n; ++i) {
            const Bilinear b(a.luma, x * n + i, y * n + j);
            const float top = luma_at(a.source, b.x, b.y) * (1.f - b.fx) +
                              luma_at(a.source, b.x + 1, b.y) * b.fx;
            const float bottom = luma_at(a.source, b.x, b.y + 1) * (1.f - b.fx) +
                                 luma_at(a.source, b.x + 1, b.y + 1) * b.fx;
            sum += top * (1.f - b.fy) + bottom * b.fy;
        }
    }
    return rintf(sum / (n * n));
}

static __device__ float2 chip_chroma(const ChipArgs& a, int x, int y) {
    const int n = a.chroma.samples;
    float2 sum = make_float2(0.f, 0.f);
    for (int j = 0; j < n; ++j) {
        for (int i = 0; i < n; ++i) {
            const Bilinear b(a.chroma, x * n + i, y * n + j);
            const float2 top = mix(chroma_at(a.source, b.x, b.y),
                                   chroma_at(a.source, b.x + 1, b.y), 1.f - b.fx);
            const float2 bottom = mix(chroma_at(a.source, b.x, b.y + 1),
                                      chroma_at(a.source, b.x + 1, b.y + 1), 1.f - b.fx);
            const float2 c = mix(top, bottom, 1.f - b.fy);
            sum.x += c.x;
            sum.y += c.y;
        }
    }
    return make_float2(rintf(sum.x / (n * n)), rintf(sum.y / (n * n)));
}

extern "C" __global__ void face_chip(const ChipArgs a) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= a.size || y >= a.size) return;
    write_rgb(a.out + (size_t)y * a.out_pitch + 3 * x, a.rgb, chip_luma(a, x, y),
              chip_chroma(a, x, y));
}

// One axis of one plane of one tile. The source is shifted by bilinear interpolation to a grid that
// begins at source index `origin + fraction`, and the grid is resized by `step` grid samples per
// tile sample. Both are linear, so a tile sample is a weighted sum of a few source samples.
struct TileAxis {
    int origin;
    float fraction;
    float step;
    int grid;  // samples of the grid
};

struct Tile {
    TileAxis luma_x, luma_y, chroma_x, chroma_y;
    int left, top, right, bottom;  // the part that the source covers, tile pixels
    int shrinks;
};

struct ComposeArgs {
    Picture source;
    u8* y;   // the canvas, without row padding
    u8* uv;
    int width;
    int height;
    int black;
    Tile tiles[2];
};

// Source samples and weights of an enlarged axis; TAPS is 4 for bicubic and 2 for bilinear.
template <int TAPS>
struct Window {
    int first;
    float weights[TAPS + 1];

    __device__ __forceinline__ Window(const TileAxis& axis, int output) {
        const float position = (output + 0.5f) * axis.step - 0.5f;
        const int base = (int)floorf(position);
        float taps[TAPS];
        coefficients(taps, position - base);
        first = clamp_to(base + 1 - TAPS / 2, 0, axis.grid - 1);
#pragma unroll
        for (int k = 0; k <= TAPS; ++k) weights[k] = 0.f;
#pragma unroll
        for (int t = 0; t < TAPS; ++t) {
            // At the grid's border several taps fall onto one grid sample.
            const int at = clamp_to(base + 1 - TAPS / 2 + t, 0, axis.grid - 1) - first;
#pragma unroll
            for (int k = 0; k < TAPS; ++k) {
                if (at == k) {
                    weights[k] += taps[t] * (1.f - axis.fraction);
                    weights[k + 1] += taps[t] * axis.fraction;
                }
            }
        }
        first += axis.origin;
    }

    static __device__ __forceinline__ void coefficients(float (&c)[4], float f) {
        const float a = -0.75f, g = 1.f - f;
        c[0] = ((a * (f + 1.f) - 5.f * a) * (f + 1.f) + 8.f * a) * (f + 1.f) - 4.f * a;
        c[1] = ((a + 2.f) * f - (a + 3.f)) * f * f + 1.f;
        c[2] = ((a + 2.f) * g - (a + 3.f)) * g * g + 1.f;
        c[3] = 1.f - c[0] - c[1] - c[2];
    }

    static __device__ __forceinline__ void coefficients(float (&c)[2], float f) {
        c[0] = 1.f - f;
        c[1] = f;
    }
};

// Source samples and weights of a shrunk axis: means of grid cells.
struct Span {
    int origin, first, last;
    float low, high, fraction, scale;

    __device__ __forceinline__ Span(const TileAxis& axis, int output) {
        low = output * axis.step;
        high = fminf(low + axis.step, (float)axis.grid);
        origin = axis.origin;
        fraction = axis.fraction;
        scale = 1.f / (high - low);
        first = (int)floorf(low);
        last = (int)ceilf(high);  // one more than the last grid cell, for the shift
    }

    __device__ __forceinline__ float weight(int k) const {
        return ((1.f - fraction) * overlap(k, low, high) +
                fraction * overlap(k - 1, low, high)) * scale;
    }
};

static __device__ float tile_luma(const Picture& p, const Tile& t, int x, int y) {
    float sum = 0.f;
    if (t.shrinks) {
        const Span h(t.luma_x, x), v(t.luma_y, y);
        for (int j = v.first; j <= v.last; ++j) {
            float row = 0.f;
            for (int i = h.first; i <= h.last; ++i)
                row += h.weight(i) * luma_at(p, h.origin + i, v.origin + j);
            sum += v.weight(j) * row;
        }
        return sum;
    }
    const Window<4> h(t.luma_x, x), v(t.luma_y, y);
#pragma unroll
    for (int j = 0; j < 5; ++j) {
        float row = 0.f;
#pragma unroll
        for (int i = 0; i < 5; ++i) row += h.weights[i] * luma_at(p, h.first + i, v.first + j);
        sum += v.weights[j] * row;
    }
    return sum;
}

static __device__ float2 tile_chroma(const Picture& p, const Tile& t, int x, int y) {
    float2 sum = make_float2(0.f, 0.f);
    if (t.shrinks) {
        const Span h(t.chroma_x, x), v(t.chroma_y, y);
        for (int j = v.first; j <= v.last; ++j) {
            for (int i = h.first; i <= h.last; ++i) {
                const float w = v.weight(j) * h.weight(i);
                const float2 c = chroma_at(p, h.origin + i, v.origin + j);
                sum.x += w * c.x;
                sum.y += w * c.y;
            }
        }
        return sum;
    }
    const Window<2> h(t.chroma_x, x), v(t.chroma_y, y);
#pragma unroll
    for (int j = 0; j < 3; ++j) {
#pragma unroll
        for (int i = 0; i < 3; ++i) {
            const float w = v.weights[j] * h.weights[i];
            const float2 c = chroma_at(p, h.first + i, v.first + j);
            sum.x += w * c.x;
            sum.y += w * c.y;
        }
    }
    return sum;
}

// blockIdx.z is 0 for luma and 1 for chroma. Both tiles in one launch.
extern "C" __global__ void compose(const ComposeArgs a) {
    const int plane = blockIdx.z;
    const int width = a.width >> plane, height = a.height >> plane;
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    const int side = x >= width / 2;
    const Tile& tile = a.tiles[side];
    const int tx = x - side * (width / 2);
    const int lx = tx << plane, ly = y << plane;
    const bool covered =
        lx >= tile.left && lx < tile.right && ly >= tile.top && ly < tile.bottom;
    if (plane == 0) {
        a.y[(size_t)y * width + x] =
            covered ? to_u8(tile_luma(a.source, tile, tx, y)) : (u8)a.black;
        return;
    }
    uchar2 c = make_uchar2(128, 128);
    if (covered) {
        const float2 mean = tile_chroma(a.source, tile, tx, y);
        c = make_uchar2(to_u8(mean.x), to_u8(mean.y));
    }
    *(uchar2*)(a.uv + 2 * ((size_t)y * width + x)) = c;
}
