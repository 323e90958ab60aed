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
    float scale;
    bool shrinks;

    __device__ __forceinline__ Axis(int output, float step, int size) {
        shrinks = step > 1.f;
        if (shrinks) {
            low = output * step;
            high = fminf(low + step, (float)size);
            scale = 1.f / (high - low);
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
        if (shrinks) return overlap(k, low, high) * scale;
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

// Samples of one axis that one output sample is made of, with their weights, read once. TAPS is how
// many there are at most; those that are missing have no weight.
template <int TAPS>
struct Taps {
    int at[TAPS];
    float weights[TAPS];

    __device__ __forceinline__ Taps(int output, float step, int size) {
        const Axis axis(output, step, size);
#pragma unroll
        for (int k = 0; k < TAPS; ++k) {
            at[k] = clamp_to(axis.first + k, 0, size - 1);
            weights[k] = axis.first + k <= axis.last ? axis.weight(axis.first + k) : 0.f;
        }
    }
};

// How many samples of an axis an output sample is made of at most.
static __device__ __forceinline__ int taps_of(float step) {
    if (step <= 1.f) return 2;
    const int whole = (int)ceilf(step);
    return whole == step ? whole : whole + 1;
}

// The same sums as `resized_luma` and `resized_chroma`, for few samples.
template <int TAPS>
static __device__ __forceinline__ float luma_sum(
    const Picture& p, const Taps<TAPS>& h, const Taps<TAPS>& v) {
    float sum = 0.f;
#pragma unroll
    for (int j = 0; j < TAPS; ++j) {
        const u8* line = p.y + (size_t)v.at[j] * p.y_pitch;
        float row = 0.f;
#pragma unroll
        for (int i = 0; i < TAPS; ++i) row += h.weights[i] * line[h.at[i]];
        sum += v.weights[j] * row;
    }
    return rintf(sum);
}

template <int TAPS>
static __device__ __forceinline__ float2 chroma_sum(
    const Picture& p, const Taps<TAPS>& h, const Taps<TAPS>& v) {
    float2 sum = make_float2(0.f, 0.f);
#pragma unroll
    for (int j = 0; j < TAPS; ++j) {
        const u8* line = p.uv + (size_t)v.at[j] * p.uv_pitch;
#pragma unroll
        for (int i = 0; i < TAPS; ++i) {
            const uchar2 c = *(const uchar2*)(line + 2 * h.at[i]);
            const float w = v.weights[j] * h.weights[i];
            sum.x += w * c.x;
            sum.y += w * c.y;
        }
    }
    return make_float2(rintf(sum.x), rintf(sum.y));
}

// Threads of one block, each of which makes 2 x 2 output pixels of nine chroma samples.
const int BLOCK_X = 32, BLOCK_Y = 8;
typedef float2 Cells[BLOCK_Y + 2][BLOCK_X + 2];

// The chroma samples that the block's threads share. TAPS is 0 for as many taps as there are.
template <int TAPS>
static __device__ __forceinline__ void fill_cells(const LetterboxArgs& a, Cells& cells) {
    const float across = (float)a.source.width / a.width, down = (float)a.source.height / a.height;
    const int first_x = (int)blockIdx.x * BLOCK_X - 1 - a.x / 2;
    const int first_y = (int)blockIdx.y * BLOCK_Y - 1 - a.y / 2;
    for (int n = threadIdx.y * BLOCK_X + threadIdx.x; n < (BLOCK_Y + 2) * (BLOCK_X + 2);
         n += BLOCK_X * BLOCK_Y) {
        const int i = n % (BLOCK_X + 2), j = n / (BLOCK_X + 2);
        if constexpr (TAPS == 0) {
            cells[j][i] = resized_chroma(a, first_x + i, first_y + j);
        } else {
            const int x = clamp_to(first_x + i, 0, a.width / 2 - 1);
            const int y = clamp_to(first_y + j, 0, a.height / 2 - 1);
            cells[j][i] = chroma_sum<TAPS>(a.source, Taps<TAPS>(x, across, a.source.width / 2),
                                           Taps<TAPS>(y, down, a.source.height / 2));
        }
    }
}

// Luma of the thread's four pixels, from (x, y) of the content on.
template <int TAPS>
static __device__ __forceinline__ void four_lumas(
    float (&found)[2][2], const LetterboxArgs& a, int x, int y) {
    if constexpr (TAPS == 0) {
        for (int n = 0; n < 4; ++n) found[n / 2][n % 2] = resized_luma(a, x + n % 2, y + n / 2);
    } else {
        const float across = (float)a.source.width / a.width;
        const float down = (float)a.source.height / a.height;
        const Taps<TAPS> left(x, across, a.source.width), right(x + 1, across, a.source.width);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const Taps<TAPS> v(y + j, down, a.source.height);
            found[j][0] = luma_sum<TAPS>(a.source, left, v);
            found[j][1] = luma_sum<TAPS>(a.source, right, v);
        }
    }
}

template <int TAPS>
static __device__ void letterbox_block(const LetterboxArgs& a, Cells& cells) {
    fill_cells<TAPS>(a, cells);
    __syncthreads();
    const int tx = threadIdx.x, ty = threadIdx.y;
    const int x0 = 2 * (blockIdx.x * BLOCK_X + tx), y0 = 2 * (blockIdx.y * BLOCK_Y + ty);
    if (x0 >= a.out_width || y0 >= a.out_height) return;
    const bool inside = x0 >= a.x && x0 < a.x + a.width && y0 >= a.y && y0 < a.y + a.height;
    if (!inside) {
        for (int j = 0; j < 2; ++j)
            for (int i = 0; i < 6; ++i) a.out[(size_t)(y0 + j) * a.out_pitch + 3 * x0 + i] = 0;
        return;
    }
    float lumas[2][2];
    four_lumas<TAPS>(lumas, a, x0 - a.x, y0 - a.y);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            // An output sample lies a quarter of a half-size sample beside the nearer one.
            const float first_x = i ? 0.75f : 0.25f, first_y = j ? 0.75f : 0.25f;
            const float2* top = &cells[ty + j][tx + i];
            const float2* bottom = &cells[ty + j + 1][tx + i];
            float2 c = mix(mix(top[0], top[1], first_x), mix(bottom[0], bottom[1], first_x), first_y);
            c.x = rintf(c.x);
            c.y = rintf(c.y);
            write_rgb(a.out + (size_t)(y0 + j) * a.out_pitch + 3 * (x0 + i), a.rgb, lumas[j][i], c);
        }
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, 4)
    letterbox(const __grid_constant__ LetterboxBatch batch) {
    __shared__ Cells cells;
    const LetterboxArgs& a = batch.items[blockIdx.z];
    const int taps = max(taps_of((float)a.source.width / a.width),
                         taps_of((float)a.source.height / a.height));
    if (taps <= 2)
        letterbox_block<2>(a, cells);
    else if (taps == 3)  // 1920 x 1080 into 640 x 640
        letterbox_block<3>(a, cells);
    else if (taps == 4)
        letterbox_block<4>(a, cells);
    else
        letterbox_block<0>(a, cells);
}

// Means: of a thumbnail's few large cells, or of the luma of a preview's many small ones.
struct MeansArgs {
    Picture source;
    u8* out;  // rows without padding; a thumbnail has Y, Cb, Cr of each cell
    int width;
    int height;
};

struct MeansBatch {
    MeansArgs items[BATCH];
};

// One block per cell, 128 threads: the mean of the part of the picture it stands for, of luma in the
// first rows of the grid and of both chroma samples in the rows below.
extern "C" __global__ void thumbnail(const __grid_constant__ MeansBatch batch) {
    const MeansArgs& a = batch.items[blockIdx.z];
    __shared__ float2 sums[4];
    const bool chroma = blockIdx.y >= a.height;
    const int parts = chroma ? 2 : 1;  // chroma is half as large in the source and in the thumbnail
    if (blockIdx.x >= a.width / parts) return;  // the whole block: none waits below
    const int row = chroma ? blockIdx.y - a.height : blockIdx.y;
    const Axis h(blockIdx.x, (float)a.source.width / a.width, a.source.width / parts);
    const Axis v(row, (float)a.source.height / a.height, a.source.height / parts);
    float2 sum = make_float2(0.f, 0.f);
    for (int i = h.first + threadIdx.x % 32; i <= h.last; i += 32) {
        float2 column = make_float2(0.f, 0.f);
#pragma unroll 4  // loads that do not wait for one another
        for (int j = v.first + threadIdx.x / 32; j <= v.last; j += 4) {
            const float2 sample =
                chroma ? chroma_at(a.source, i, j) : make_float2(luma_at(a.source, i, j), 0.f);
            column.x += v.weight(j) * sample.x;
            column.y += v.weight(j) * sample.y;
        }
        sum.x += h.weight(i) * column.x;
        sum.y += h.weight(i) * column.y;
    }
    for (int offset = 16; offset; offset /= 2) {
        sum.x += __shfl_down_sync(~0u, sum.x, offset);
        sum.y += __shfl_down_sync(~0u, sum.y, offset);
    }
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        const u8 first = to_u8(sums[0].x + sums[1].x + sums[2].x + sums[3].x);
        const u8 second = to_u8(sums[0].y + sums[1].y + sums[2].y + sums[3].y);
        if (!chroma) {
            a.out[3 * (row * a.width + blockIdx.x)] = first;
            return;
        }
        for (int n = 0; n < 4; ++n) {  // a chroma sample belongs to four pixels
            const int x = 2 * blockIdx.x + n % 2, y = 2 * row + n / 2;
            u8* out = a.out + 3 * (y * a.width + x);
            out[1] = first;
            out[2] = second;
        }
    }
}

// One thread per sample: the mean luma of the few source samples it stands for.
extern "C" __global__ void preview(const __grid_constant__ MeansBatch batch) {
    const MeansArgs& a = batch.items[blockIdx.z];
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= a.width || y >= a.height) return;
    const Axis h(x, (float)a.source.width / a.width, a.source.width);
    const Axis v(y, (float)a.source.height / a.height, a.source.height);
    float sum = 0.f;
    for (int j = v.first; j <= v.last; ++j) {
        float row = 0.f;
        for (int i = h.first; i <= h.last; ++i) row += h.weight(i) * luma_at(a.source, i, j);
        sum += v.weight(j) * row;
    }
    a.out[y * a.width + x] = to_u8(sum);
}

// The squares that a face is averaged down to.
struct BlocksArgs {
    Picture source;
    float* out;  // rows without padding
    int left, top;
    int step;
    int width, height;  // in squares
};

struct BlocksBatch {
    BlocksArgs items[BATCH];
};

// One thread per square.
extern "C" __global__ void block_means(const __grid_constant__ BlocksBatch batch) {
    const BlocksArgs& a = batch.items[blockIdx.z];
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= a.width || y >= a.height) return;
    const u8* corner =
        a.source.y + (size_t)(a.top + y * a.step) * a.source.y_pitch + a.left + x * a.step;
    int sum = 0;
    for (int j = 0; j < a.step; ++j)
        for (int i = 0; i < a.step; ++i) sum += corner[(size_t)j * a.source.y_pitch + i];
    a.out[y * a.width + x] = (float)sum / (a.step * a.step);
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

// A rectangle of the canvas, luma samples, all even.
struct Box {
    short x, y, width, height;
};

// A part of the source in a rectangle of the canvas. Chroma has half as many samples, drawn with the
// same step from its own start.
struct View {
    float start_x, start_y;    // edges of the first drawn sample, source samples
    float chroma_x, chroma_y;  // the same of chroma
    float step_x, step_y;      // source samples per drawn sample
    short first_x, last_x;     // source samples that may be read, of luma
    short first_y, last_y;
    Box area, content;
    const float* cells;        // what the area shows around its content: Y, Cb, Cr of each cell
    short columns, rows;       // of cells
    int shrinks;
};

const int VIEWS = 3;  // of a canvas

struct ComposeArgs {
    Picture source;
    u8* y;   // the canvas, without row padding
    u8* uv;
    u8 background[3];
    u8 views;
};

struct ComposeBatch {
    int width;
    int height;
    ComposeArgs items[BATCH];
    View views[BATCH][VIEWS];
};

static __device__ __forceinline__ void add(float& sum, float weight, float value) {
    sum += weight * value;
}

static __device__ __forceinline__ void add(float2& sum, float weight, float2 value) {
    sum.x += weight * value.x;
    sum.y += weight * value.y;
}

// How samples are interpolated: the weights of TAPS neighbours for a place between the middle two, at
// the share f of the way from the left one to the right one.
struct Lanczos {  // a = 4
    static const int TAPS = 8;

    static __device__ __forceinline__ void weigh(float (&w)[TAPS], float f) {
        // Of sin(pi d) sin(pi d / 4) / d^2 the first factor is the same for all but for its sign, and
        // the second follows from the angle of f by eighths of a turn.
        const float h = 0.70710678f;
        const float turns[TAPS][2] = {{-h, h}, {0, 1},  {h, h},   {1, 0},
                                      {h, -h}, {0, -1}, {-h, -h}, {-1, 0}};
        float sine, cosine, sum = 0.f;
        f = fmaxf(f, 1e-6f);
        sincospif(f / 4.f, &sine, &cosine);
#pragma unroll
        for (int k = 0; k < TAPS; ++k) {
            const float d = f + 3 - k, sign = k % 2 ? -1.f : 1.f;
            w[k] = __fdividef(sign * (sine * turns[k][0] + cosine * turns[k][1]), d * d);
            sum += w[k];
        }
        const float scale = 1.f / sum;
#pragma unroll
        for (int k = 0; k < TAPS; ++k) w[k] *= scale;
    }
};

struct Linear {
    static const int TAPS = 2;

    static __device__ __forceinline__ void weigh(float (&w)[TAPS], float f) {
        w[0] = 1.f - f;
        w[1] = f;
    }
};

struct Spline {  // cubic B-spline
    static const int TAPS = 4;

    static __device__ __forceinline__ void weigh(float (&w)[TAPS], float f) {
        const float g = 1.f - f;
        w[0] = g * g * g / 6.f;
        w[1] = (4.f - 3.f * f * f * (1.f + g)) / 6.f;
        w[3] = f * f * f / 6.f;
        w[2] = 1.f - w[0] - w[1] - w[3];
    }
};

// A plane of a picture: how its samples are read, enlarged and written.
struct Luma {
    typedef float Value;
    typedef Lanczos Filter;
    static const int HALVED = 0, BYTES = 1;
    const u8* data;
    int pitch;

    __device__ __forceinline__ Luma(const Picture& p) : data(p.y), pitch(p.y_pitch) {}

    static __device__ __forceinline__ Value at(const u8* row, int x) { return row[x]; }

    static __device__ __forceinline__ Value of_cell(const float* cell) { return cell[0]; }

    static __device__ __forceinline__ void write(u8* out, Value v) { out[0] = to_u8(v); }
};

struct Chroma {
    typedef float2 Value;
    typedef Linear Filter;
    static const int HALVED = 1, BYTES = 2;
    const u8* data;
    int pitch;

    __device__ __forceinline__ Chroma(const Picture& p) : data(p.uv), pitch(p.uv_pitch) {}

    static __device__ __forceinline__ Value at(const u8* row, int x) {
        const uchar2 c = ((const uchar2*)row)[x];
        return make_float2(c.x, c.y);
    }

    static __device__ __forceinline__ Value of_cell(const float* cell) {
        return make_float2(cell[1], cell[2]);
    }

    static __device__ __forceinline__ void write(u8* out, Value v) {
        out[0] = to_u8(v.x);
        out[1] = to_u8(v.y);
    }
};

// One axis of one plane of a view, as in geometry.py.
struct Line {
    float start, step;
    int first, last;

    template <class Plane>
    static __device__ __forceinline__ Line across(const View& v) {
        return {Plane::HALVED ? v.chroma_x : v.start_x, v.step_x, v.first_x >> Plane::HALVED,
                v.last_x >> Plane::HALVED};
    }

    template <class Plane>
    static __device__ __forceinline__ Line down(const View& v) {
        return {Plane::HALVED ? v.chroma_y : v.start_y, v.step_y, v.first_y >> Plane::HALVED,
                v.last_y >> Plane::HALVED};
    }

    __device__ __forceinline__ int clamp(int k) const { return clamp_to(k, first, last); }
};

// Samples and weights of an enlarged axis; samples beyond its ends are not yet clamped.
template <class Filter>
struct Window {
    float weights[Filter::TAPS];
    int first;

    __device__ __forceinline__ void set(const Line& line, int drawn) {
        const float position = line.start + (drawn + 0.5f) * line.step - 0.5f;
        const float base = floorf(position);
        Filter::weigh(weights, position - base);
        first = (int)base + 1 - Filter::TAPS / 2;
    }
};

// Samples and weights of a shrunk axis: means of what lies under a drawn sample.
struct Span {
    float low, high, scale;
    int first, last;

    __device__ __forceinline__ Span(const Line& line, int drawn) {
        low = line.start + drawn * line.step;
        high = low + line.step;
        scale = 1.f / line.step;
        first = (int)floorf(low);
        last = (int)ceilf(high) - 1;
    }

    __device__ __forceinline__ float weight(int k) const { return overlap(k, low, high) * scale; }
};

// What one block draws of a plane; every thread draws RUN neighbours of one row.
const int RUN = 4, DRAWN_COLUMNS = 64, DRAWN_ROWS = 16;
const int DRAWN_THREADS = DRAWN_COLUMNS * DRAWN_ROWS / RUN;

// Both directions one after the other: the rows that the block reads are enlarged sideways once.
// Weights are made once for each column and row, as they cost more than the sums.
// x0, y0: the block's corner, drawn samples of the view.
template <class Plane>
static __device__ __forceinline__ void enlarge(
    typename Plane::Value (&found)[RUN], const Plane& plane, const View& view, int x0, int y0) {
    typedef typename Plane::Value Value;
    typedef typename Plane::Filter Filter;
    const int TAPS = Filter::TAPS, WINDOWS = DRAWN_COLUMNS + DRAWN_ROWS;
    // At most 1.05 source rows per drawn row; one more where a position rounds up.
    __shared__ Value rows[DRAWN_ROWS + TAPS + 1][DRAWN_COLUMNS];
    __shared__ Window<Filter> windows[WINDOWS];  // of the columns, then of the rows
    const Line across = Line::across<Plane>(view), down = Line::down<Plane>(view);
    const int thread = threadIdx.y * blockDim.x + threadIdx.x;
    __syncthreads();  // those of the view before are no longer needed
    if (thread < DRAWN_COLUMNS)
        windows[thread].set(across, x0 + thread);
    else if (thread < WINDOWS)
        windows[thread].set(down, y0 + thread - DRAWN_COLUMNS);
    __syncthreads();
    const int top = windows[DRAWN_COLUMNS].first;
    const int count = windows[WINDOWS - 1].first - top + TAPS;
    const int column = thread % DRAWN_COLUMNS;
    const Window<Filter> h = windows[column];
    int xs[TAPS];
#pragma unroll
    for (int k = 0; k < TAPS; ++k) xs[k] = across.clamp(h.first + k);
    for (int r = thread / DRAWN_COLUMNS; r < count; r += DRAWN_THREADS / DRAWN_COLUMNS) {
        const u8* row = plane.data + (size_t)down.clamp(top + r) * plane.pitch;
        Value sum = Value();
#pragma unroll
        for (int k = 0; k < TAPS; ++k) add(sum, h.weights[k], Plane::at(row, xs[k]));
        rows[r][column] = sum;
    }
    __syncthreads();
    const Window<Filter>& v = windows[DRAWN_COLUMNS + threadIdx.y];
#pragma unroll
    for (int k = 0; k < TAPS; ++k)
#pragma unroll
        for (int n = 0; n < RUN; ++n)
            add(found[n], v.weights[k], rows[v.first - top + k][threadIdx.x * RUN + n]);
}

template <class Plane>
static __device__ typename Plane::Value shrunk(const Plane& plane, const View& view, int x, int y) {
    typedef typename Plane::Value Value;
    const Line across = Line::across<Plane>(view), down = Line::down<Plane>(view);
    const Span h(across, x), v(down, y);
    Value sum = Value();
    for (int j = v.first; j <= v.last; ++j) {
        const u8* row = plane.data + (size_t)down.clamp(j) * plane.pitch;
        Value mean = Value();
        for (int i = h.first; i <= h.last; ++i)
            add(mean, h.weight(i), Plane::at(row, across.clamp(i)));
        add(sum, v.weight(j), mean);
    }
    return sum;
}

// What an area shows around its content. x, y: drawn samples of the area.
template <class Plane>
static __device__ typename Plane::Value backdrop(const View& view, int x, int y) {
    typedef typename Plane::Value Value;
    const float wide = view.area.width >> Plane::HALVED, high = view.area.height >> Plane::HALVED;
    const Line across = {0.f, view.columns / wide, 0, view.columns - 1};
    const Line down = {0.f, view.rows / high, 0, view.rows - 1};
    Window<Spline> h, v;
    h.set(across, x);
    v.set(down, y);
    Value sum = Value();
#pragma unroll
    for (int j = 0; j < Spline::TAPS; ++j) {
        const float* row = view.cells + 3 * view.columns * down.clamp(v.first + j);
        Value part = Value();
#pragma unroll
        for (int i = 0; i < Spline::TAPS; ++i)
            add(part, h.weights[i], Plane::of_cell(row + 3 * across.clamp(h.first + i)));
        add(sum, v.weights[j], part);
    }
    return sum;
}

// Whether a rectangle of the canvas holds a sample of a plane.
template <class Plane>
static __device__ __forceinline__ bool holds(const Box& box, int x, int y) {
    x = (x << Plane::HALVED) - box.x;
    y = (y << Plane::HALVED) - box.y;
    return x >= 0 && x < box.width && y >= 0 && y < box.height;
}

// Whether it meets the block of samples that begins there: the same for all threads of the block.
template <class Plane>
static __device__ __forceinline__ bool meets(const Box& box, int x0, int y0) {
    x0 = (x0 << Plane::HALVED) - box.x;
    y0 = (y0 << Plane::HALVED) - box.y;
    return x0 < box.width && x0 + (DRAWN_COLUMNS << Plane::HALVED) > 0 && y0 < box.height &&
           y0 + (DRAWN_ROWS << Plane::HALVED) > 0;
}

// Draws the block's part of a view. x0, y0: the block's corner, samples of the canvas.
template <class Plane>
static __device__ __forceinline__ void draw_view(
    typename Plane::Value (&found)[RUN], const Plane& plane, const View& view, int x0, int y0) {
    const int left = view.content.x >> Plane::HALVED, top = view.content.y >> Plane::HALVED;
    typename Plane::Value content[RUN] = {};
    if (!view.shrinks && meets<Plane>(view.content, x0, y0))
        enlarge(content, plane, view, x0 - left, y0 - top);
    const int x = x0 + threadIdx.x * RUN, y = y0 + threadIdx.y;
#pragma unroll
    for (int n = 0; n < RUN; ++n) {
        if (holds<Plane>(view.content, x + n, y))
            found[n] = view.shrinks ? shrunk(plane, view, x + n - left, y - top) : content[n];
        else if (holds<Plane>(view.area, x + n, y))
            found[n] = backdrop<Plane>(view, x + n - (view.area.x >> Plane::HALVED),
                                       y - (view.area.y >> Plane::HALVED));
    }
}

// Writes COUNT bytes, a multiple of four, in words where they lie so.
template <int COUNT>
static __device__ __forceinline__ void store(u8* out, const u8 (&bytes)[COUNT], int count) {
    if (count == COUNT && (size_t)out % 4 == 0) {
#pragma unroll
        for (int n = 0; n < COUNT; n += 4)
            *(uchar4*)(out + n) =
                make_uchar4(bytes[n], bytes[n + 1], bytes[n + 2], bytes[n + 3]);
        return;
    }
#pragma unroll
    for (int n = 0; n < COUNT; ++n)
        if (n < count) out[n] = bytes[n];
}

// Draws the block's part of one plane of a canvas, width x height samples.
template <class Plane>
static __device__ __forceinline__ void draw(
    const ComposeArgs& a, const View* views, typename Plane::Value background, u8* out, int x0,
    int y0, int width, int height) {
    if (x0 >= width || y0 >= height) return;
    const Plane plane(a.source);
    typename Plane::Value found[RUN];
#pragma unroll
    for (int n = 0; n < RUN; ++n) found[n] = background;
    for (int n = 0; n < a.views; ++n)
        if (meets<Plane>(views[n].area, x0, y0)) draw_view(found, plane, views[n], x0, y0);
    const int x = x0 + threadIdx.x * RUN, y = y0 + threadIdx.y;
    if (x >= width || y >= height) return;
    u8 bytes[RUN * Plane::BYTES];
#pragma unroll
    for (int n = 0; n < RUN; ++n) Plane::write(bytes + n * Plane::BYTES, found[n]);
    store(out + ((size_t)y * width + x) * Plane::BYTES, bytes, min(RUN, width - x) * Plane::BYTES);
}

// blockIdx.x: columns. blockIdx.y: the rows of luma, then half as many of chroma. blockIdx.z: the
// canvas.
// Five blocks on a multiprocessor hide more waiting than the spilled registers cost (measured with
// four taps: 14 us a canvas, 16 with four blocks and none spilled).
extern "C" __global__ void __launch_bounds__(DRAWN_THREADS, 5)
    compose(const __grid_constant__ ComposeBatch batch) {
    const ComposeArgs& a = batch.items[blockIdx.z];
    const View* views = batch.views[blockIdx.z];
    const int luma_rows = (batch.height + DRAWN_ROWS - 1) / DRAWN_ROWS;
    const int x0 = blockIdx.x * DRAWN_COLUMNS;
    if ((int)blockIdx.y < luma_rows)
        draw<Luma>(a, views, a.background[0], a.y, x0, blockIdx.y * DRAWN_ROWS, batch.width,
                   batch.height);
    else
        draw<Chroma>(a, views, make_float2(a.background[1], a.background[2]), a.uv, x0,
                     (blockIdx.y - luma_rows) * DRAWN_ROWS, batch.width / 2, batch.height / 2);
}

struct BackdropArgs {
    Picture source;
    float* cells;  // Y, Cb, Cr of each
    float start_x, start_y, step_x, step_y;
    short first_x, last_x, first_y, last_y;
    short columns, rows;
    float black;
};

struct BackdropBatch {
    BackdropArgs items[BATCH * VIEWS];
};

const float BACKDROP_GAIN = 0.6f;  // as in geometry.py
const int CELL_THREADS = 128;

// The thread's share of a cell's mean.
template <class Plane>
static __device__ __forceinline__ typename Plane::Value part_of_mean(
    const Plane& plane, const Line& across, const Line& down, int column, int row) {
    typename Plane::Value sum = typename Plane::Value();
    const Span h(across, column), v(down, row);
    for (int i = h.first + threadIdx.x % 32; i <= h.last; i += 32)
        for (int j = v.first + threadIdx.x / 32; j <= v.last; j += CELL_THREADS / 32)
            add(sum, h.weight(i) * v.weight(j),
                Plane::at(plane.data + (size_t)down.clamp(j) * plane.pitch, across.clamp(i)));
    return sum;
}

// One block per cell and view: the mean of the part of the picture that it stands for, darkened.
extern "C" __global__ void backdrops(const __grid_constant__ BackdropBatch batch) {
    const BackdropArgs& a = batch.items[blockIdx.z];
    const int cell = blockIdx.x, column = cell % a.columns, row = cell / a.columns;
    if (row >= a.rows) return;
    __shared__ float sums[3][CELL_THREADS / 32];
    const Line across = {a.start_x, a.step_x, a.first_x, a.last_x};
    const Line down = {a.start_y, a.step_y, a.first_y, a.last_y};
    const Line half_across = {a.start_x / 2, a.step_x / 2, a.first_x / 2, a.last_x / 2};
    const Line half_down = {a.start_y / 2, a.step_y / 2, a.first_y / 2, a.last_y / 2};
    const float2 chroma = part_of_mean(Chroma(a.source), half_across, half_down, column, row);
    float parts[3] = {part_of_mean(Luma(a.source), across, down, column, row), chroma.x, chroma.y};
    for (int n = 0; n < 3; ++n) {
        for (int offset = 16; offset; offset /= 2)
            parts[n] += __shfl_down_sync(~0u, parts[n], offset);
        if (threadIdx.x % 32 == 0) sums[n][threadIdx.x / 32] = parts[n];
    }
    __syncthreads();
    if (threadIdx.x >= 3) return;
    const float* s = sums[threadIdx.x];
    const float base = threadIdx.x ? 128.f : a.black;
    a.cells[3 * cell + threadIdx.x] = base + BACKDROP_GAIN * (s[0] + s[1] + s[2] + s[3] - base);
}
