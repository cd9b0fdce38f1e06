/*
 * examples/demo_picture.h - what demo_rmsnorm found, as a picture: SVG 1.1, written by hand.
 *
 * Above, the error of every element, once for each of two formats: a row is a token, darker is
 * worse. Below, how often each code and each scale byte occurs. Every bar carries its count as a
 * <title>, which viewers show under the pointer and tests read.
 */
#ifndef FP4_EXAMPLES_DEMO_PICTURE_H
#define FP4_EXAMPLES_DEMO_PICTURE_H

#include <fp4/host/tensor.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

/** A quantized tensor, what it decodes to, and what to call it. */
typedef struct picture_series {
    const char *name, *id; /* "NVFP4", "nvfp4" */
    const char *color;
    const fp4_tensor *t;
    const float *decoded;
    double sqnr_db, max_abs;
} picture_series;

/** All that is drawn. `series`: an NVFP4 tensor and an MXFP4 tensor. */
typedef struct picture {
    const char *title, *subtitle;
    size_t rows, cols;
    const float *exact;
    const char *const *words; /* of the rows; null where they are not known */
    picture_series series[2];
} picture;

/* -------------------------------------------------------------------------------- pieces */

enum {
    PICTURE_WIDTH = 1180,
    PICTURE_HEIGHT = 856,
    PICTURE_LEFT = 84,
    HEAT_WIDTH = 960,
    HEAT_HEIGHT = 172,
    HEAT_LEVELS = 16,
    BARS_TOP = 618,
    BARS_HEIGHT = 170
};

/* Text with what XML reserves spelled out, and nothing but printable ASCII. */
static void svg_escaped(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '&':
            fputs("&amp;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        default:
            fputc(*text < ' ' || *text > '~' ? '?' : *text, out);
        }
    }
}

/* style: a class of the style sheet in svg_begin. */
static void svg_text(FILE *out, double x, double y, const char *style, const char *text)
{
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, style);
    svg_escaped(out, text);
    fputs("</text>\n", out);
}

static void svg_line(FILE *out, double x1, double y1, double x2, double y2, const char *style)
{
    fprintf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>\n", x1, y1,
            x2, y2, style);
}

static void svg_begin(FILE *out)
{
    fprintf(out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" width=\"%d\" height=\"%d\" "
            "viewBox=\"0 0 %d %d\">\n"
            "<style type=\"text/css\">\n"
            "text { font-family: Helvetica, Arial, 'DejaVu Sans', sans-serif; font-size: 12px;"
            " fill: #444 }\n"
            ".title { font-size: 20px; font-weight: bold; fill: #111 }\n"
            ".head { font-size: 14px; font-weight: bold; fill: #111 }\n"
            ".middle { text-anchor: middle }\n"
            ".end { text-anchor: end }\n"
            ".small { font-size: 10px; text-anchor: middle; fill: #777 }\n"
            ".axis { stroke: #444; stroke-width: 1 }\n"
            ".grid { stroke: #e4e4e4; stroke-width: 1 }\n"
            "</style>\n"
            "<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n",
            PICTURE_WIDTH, PICTURE_HEIGHT, PICTURE_WIDTH, PICTURE_HEIGHT, PICTURE_WIDTH,
            PICTURE_HEIGHT);
}

/* The smallest of 1, 2, 5, 10, ... times a power of ten that reaches `least` in `parts` steps. */
static double nice_step(double least, int parts)
{
    const double wanted = least > 0.0 ? least / parts : 1.0;
    const double power = pow(10.0, floor(log10(wanted)));
    const double digit = wanted / power;

    return power * (digit <= 1.0 ? 1.0 : digit <= 2.0 ? 2.0 : digit <= 5.0 ? 5.0 : 10.0);
}

/* -------------------------------------------------------------------------------- errors */

/* What a level of the error stands for: [level, level + 1) * top / HEAT_LEVELS, the last without an
   end. */
static int heat_level(double error, double top)
{
    const double level = floor(error / top * HEAT_LEVELS);

    return level < HEAT_LEVELS - 1 ? (int)level : HEAT_LEVELS - 1;
}

/* White over orange and red to a violet that is nearly black: lightness falls all the way. */
static void heat_color(int level, char color[8])
{
    static const double stops[][3] = {{255, 255, 255}, {254, 224, 182}, {246, 148, 96},
                                      {205, 62, 90},   {122, 24, 110},  {32, 8, 56}};
    const double at = (double)level * 5 / (HEAT_LEVELS - 1);
    const int i = at < 4 ? (int)at : 4;
    unsigned rgb[3];
    int c;

    for (c = 0; c < 3; c++) {
        rgb[c] = (unsigned)lround(stops[i][c] + (at - i) * (stops[i + 1][c] - stops[i][c]));
    }
    snprintf(color, 8, "#%02x%02x%02x", rgb[0] & 255u, rgb[1] & 255u, rgb[2] & 255u);
}

static double error_at(const picture *p, const picture_series *s, size_t row, size_t col)
{
    return fabs((double)s->decoded[row * p->cols + col] - (double)p->exact[row * p->cols + col]);
}

/* A round number that all but a thousandth of the errors are below: found among 4096 steps. */
static double heat_top(const picture *p)
{
    size_t counts[4096] = {0}, above = 0, row, col;
    double largest = 0.0;
    int i, pass;

    for (pass = 0; pass < 2; pass++) {
        for (i = 0; i < 2; i++) {
            for (row = 0; row < p->rows; row++) {
                for (col = 0; col < p->cols; col++) {
                    const double error = error_at(p, &p->series[i], row, col);
                    if (pass == 0) {
                        largest = error > largest ? error : largest;
                    } else if (largest > 0.0) {
                        counts[(int)(error / largest * 4095)]++;
                    }
                }
            }
        }
    }
    for (i = 4095; i > 0 && above + counts[i] <= 2 * p->rows * p->cols / 1000; i--) {
        above += counts[i];
    }
    return 4 * nice_step(largest * (i + 1) / 4096, 4);
}

/* The cells of one level: strokes one unit wide along the runs of equal cells. */
static void draw_level(FILE *out, const picture *p, const picture_series *s, double top, int level)
{
    char color[8];
    size_t row, col, end;

    heat_color(level, color);
    fprintf(out, "<path stroke=\"%s\" d=\"", color);
    for (row = 0; row < p->rows; row++) {
        for (col = 0; col < p->cols; col = end) {
            const int here = heat_level(error_at(p, s, row, col), top);
            for (end = col + 1; end < p->cols; end++) {
                if (heat_level(error_at(p, s, row, end), top) != here) {
                    break;
                }
            }
            if (here == level) {
                fprintf(out, "M%zu %zuh%zu", col, row, end - col);
            }
        }
    }
    fputs("\"/>\n", out);
}

static void draw_heat_axes(FILE *out, const picture *p, double y)
{
    const size_t step = p->cols <= 768 ? 64 : (p->cols + 767) / 768 * 64;
    const double height = (double)HEAT_HEIGHT / (double)p->rows;
    char text[32];
    size_t i;

    fprintf(out,
            "<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%d\" fill=\"none\" "
            "stroke=\"#999\"/>\n",
            PICTURE_LEFT, y, HEAT_WIDTH, HEAT_HEIGHT);
    for (i = 0; i <= p->cols; i += step) {
        const double x = PICTURE_LEFT + HEAT_WIDTH * (double)i / (double)p->cols;
        svg_line(out, x, y + HEAT_HEIGHT, x, y + HEAT_HEIGHT + 4, "axis");
        snprintf(text, sizeof text, "%zu", i);
        svg_text(out, x, y + HEAT_HEIGHT + 17, "middle", text);
    }
    for (i = 0; i < p->rows; i += 8) {
        const double middle = y + ((double)i + 0.5) * height;
        if (p->words != NULL) {
            snprintf(text, sizeof text, "\"%s\"", p->words[i]);
        } else {
            snprintf(text, sizeof text, "%zu", i);
        }
        svg_line(out, PICTURE_LEFT - 4, middle, PICTURE_LEFT, middle, "axis");
        svg_text(out, PICTURE_LEFT - 8, middle + 4, "end", text);
    }
}

static void draw_heat(FILE *out, const picture *p, const picture_series *s, double y, double top)
{
    char text[96];
    int level;

    snprintf(text, sizeof text, "%s: |decoded - exact| of each element. SQNR %.2f dB, largest %.4f",
             s->name, s->sqnr_db, s->max_abs);
    svg_text(out, PICTURE_LEFT, y - 10, "head", text);
    fprintf(out,
            "<g id=\"error-%s\" transform=\"translate(%d %.1f) scale(%.6f %.6f) translate(0 0.5)\" "
            "fill=\"none\" stroke-width=\"1\" shape-rendering=\"crispEdges\">\n",
            s->id, PICTURE_LEFT, y, (double)HEAT_WIDTH / (double)p->cols,
            (double)HEAT_HEIGHT / (double)p->rows);
    for (level = 0; level < HEAT_LEVELS; level++) {
        draw_level(out, p, s, top, level);
    }
    fputs("</g>\n", out);
    draw_heat_axes(out, p, y);
}

/* What the colors mean, beside the maps from y to y + height. */
static void draw_heat_legend(FILE *out, double y, double height, double top)
{
    const double x = PICTURE_LEFT + HEAT_WIDTH + 26, part = height / HEAT_LEVELS;
    char color[8], text[48];
    int i;

    svg_text(out, x, y - 10, "head", "error in y");
    for (i = 0; i < HEAT_LEVELS; i++) {
        heat_color(i, color);
        fprintf(out, "<rect x=\"%.1f\" y=\"%.2f\" width=\"18\" height=\"%.2f\" fill=\"%s\"/>\n", x,
                y + height - (i + 1) * part, part + 0.3, color);
    }
    fprintf(out,
            "<rect x=\"%.1f\" y=\"%.1f\" width=\"18\" height=\"%.1f\" fill=\"none\" "
            "stroke=\"#999\"/>\n",
            x, y, height);
    for (i = 0; i <= 4; i++) {
        snprintf(text, sizeof text, i == 4 ? "%g and more" : "%g", top * i / 4);
        svg_line(out, x + 18, y + height * (4 - i) / 4, x + 22, y + height * (4 - i) / 4, "axis");
        svg_text(out, x + 26, y + height * (4 - i) / 4 + (i == 4 ? 10 : 4), "left", text);
    }
}

/* -------------------------------------------------------------------------------- bars */

/* A bar chart's place: `unit` pixels an element counted. */
typedef struct chart {
    double x, width, unit;
} chart;

/* The box of a chart whose largest count is `most`: head, axes, and the counts on the left. */
static chart begin_chart(FILE *out, double x, double width, size_t most, const char *head,
                         const char *counted)
{
    const double step = nice_step(most > 4 ? (double)most : 4.0, 4);
    const int steps = (int)ceil((double)most / step);
    chart c = {x, width, BARS_HEIGHT / (step * (steps > 0 ? steps : 1))};
    char text[32];
    int i;

    svg_text(out, x, BARS_TOP - 30, "head", head);
    svg_text(out, x, BARS_TOP - 12, "left", counted);
    for (i = 0; i <= steps; i++) {
        const double y = BARS_TOP + BARS_HEIGHT - i * step * c.unit;
        svg_line(out, x, y, x + width, y, i == 0 ? "axis" : "grid");
        snprintf(text, sizeof text, "%.0f", i * step);
        svg_text(out, x - 6, y + 4, "end", text);
    }
    return c;
}

/* `what` says what the bar counts; the count itself is added. */
static void draw_bar(FILE *out, const chart *c, double x, double width, size_t count,
                     const picture_series *s, const char *what)
{
    const double height = (double)count * c->unit;

    fprintf(out,
            "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"%s\">"
            "<title>%s %s: %zu</title></rect>\n",
            x, BARS_TOP + BARS_HEIGHT - height, width, height, s->color, s->name, what, count);
}

static void count_codes(const picture_series *s, size_t counts[16])
{
    const size_t bytes = fp4_q_bytes(s->t->format, s->t->rows, s->t->cols);
    size_t i;

    memset(counts, 0, 16 * sizeof counts[0]);
    for (i = 0; i < bytes; i++) {
        counts[s->t->q[i] & 15]++;
        counts[s->t->q[i] >> 4]++;
    }
}

static void count_scales(const picture_series *s, size_t counts[256])
{
    const size_t sf_cols = s->t->cols / fp4_format_block(s->t->format);
    size_t row, col;

    memset(counts, 0, 256 * sizeof counts[0]);
    for (row = 0; row < s->t->rows; row++) {
        for (col = 0; col < sf_cols; col++) {
            counts[s->t->sf[fp4_sf_offset(s->t->layout, row, col, sf_cols)]]++;
        }
    }
}

static size_t largest_of(const size_t *counts, size_t n)
{
    size_t most = 0, i;

    for (i = 0; i < n; i++) {
        most = counts[i] > most ? counts[i] : most;
    }
    return most;
}

/* The sixteen codes in the order of their values, a bar for each format. */
static void draw_codes(FILE *out, const picture *p, double x, double width)
{
    const double place = width / 16;
    size_t counts[2][16], most;
    char text[48];
    chart c;
    int i, s;

    count_codes(&p->series[0], counts[0]);
    count_codes(&p->series[1], counts[1]);
    most = largest_of(counts[0], 32);
    c = begin_chart(out, x, width, most, "Codes", "elements with each of the 16 values of e2m1");
    for (i = 0; i < 16; i++) {
        const unsigned code = i < 8 ? 15u - (unsigned)i : (unsigned)i - 8;
        const double left = x + i * place, value = (double)fp4_e2m1_to_f32((uint8_t)code);
        for (s = 0; s < 2; s++) {
            snprintf(text, sizeof text, "code 0x%x = %g", code, value);
            draw_bar(out, &c, left + place * (0.12 + 0.38 * s), place * 0.38, counts[s][code],
                     &p->series[s], text);
        }
        snprintf(text, sizeof text, "%g", value);
        svg_text(out, left + place / 2, BARS_TOP + BARS_HEIGHT + 16, "middle", text);
        snprintf(text, sizeof text, "0x%x", code);
        svg_text(out, left + place / 2, BARS_TOP + BARS_HEIGHT + 29, "small", text);
    }
    svg_text(out, x + width / 2, BARS_TOP + BARS_HEIGHT + 48, "middle", "value of the code");
    for (s = 0; s < 2; s++) {
        fprintf(out, "<rect x=\"%.1f\" y=\"%d\" width=\"11\" height=\"11\" fill=\"%s\"/>\n",
                x + width - 150 + 78 * s, BARS_TOP - 39, p->series[s].color);
        svg_text(out, x + width - 135 + 78 * s, BARS_TOP - 29, "left", p->series[s].name);
    }
}

/* What a scale byte decodes to. */
static double scale_value(const picture_series *s, int byte)
{
    return s->t->format == FP4_NVFP4 ? (double)fp4_e4m3_to_f32((uint8_t)byte)
                                     : (double)fp4_e8m0_to_f32((uint8_t)byte);
}

/* The octaves from low to high hold all bytes that occur, but for byte 0: of e4m3 it is 0, of e8m0
   so far from the rest that there would be nothing else to see. */
static void find_octaves(const picture_series *s, const size_t counts[256], int *low, int *high)
{
    int first = 255, last = 0, i;

    for (i = 255; i > 0; i--) {
        if (counts[i] != 0) {
            first = i;
            last = last > 0 ? last : i;
        }
    }
    *low = last > 0 ? (int)floor(log2(scale_value(s, first))) : 0;
    *high = last > 0 ? (int)floor(log2(scale_value(s, last))) + 1 : 1;
}

/* The scale bytes that occur, by the logarithm of what they decode to; byte 0 an octave left of the
   rest. */
static void draw_scales(FILE *out, const picture_series *s, double x, double width,
                        const char *head, const char *counted)
{
    size_t counts[256];
    double octave, bar;
    char text[48];
    chart c;
    int low, high, tick, i;

    count_scales(s, counts);
    find_octaves(s, counts, &low, &high);
    low -= counts[0] != 0;
    octave = width / (high - low + 0.5);
    /* the closest neighbours are 15/16 apart in e4m3, 1/2 in e8m0 */
    bar = s->t->format == FP4_NVFP4 ? 0.8 * octave * log2(16.0 / 15) : 0.7 * octave;
    c = begin_chart(out, x, width, largest_of(counts, 256), head, counted);
    for (i = 0; i < 256; i++) {
        if (counts[i] != 0) {
            const double at = i > 0 ? log2(scale_value(s, i)) : low;
            snprintf(text, sizeof text, "scale 0x%02x = %g", (unsigned)i, scale_value(s, i));
            draw_bar(out, &c, x + (at - low + 0.5) * octave - bar / 2, bar, counts[i], s, text);
        }
    }
    tick = (int)ceil(40 / octave); /* pixels that a label needs */
    for (i = 0; low + i <= high && i * octave < width; i += tick) {
        const double at = x + (i + 0.5) * octave;
        if (low + i >= -3 && low + i <= 9) {
            snprintf(text, sizeof text, "%g", exp2(low + i));
        } else {
            snprintf(text, sizeof text, "2^%d", low + i);
        }
        svg_line(out, at, BARS_TOP + BARS_HEIGHT, at, BARS_TOP + BARS_HEIGHT + 4, "axis");
        svg_text(out, at, BARS_TOP + BARS_HEIGHT + 17, "middle",
                 i == 0 && counts[0] != 0 ? "0x00" : text);
    }
    svg_text(out, x + width / 2, BARS_TOP + BARS_HEIGHT + 48, "middle",
             "value of the scale byte, log2 axis");
}

/* -------------------------------------------------------------------------------- all of it */

/** Writes the picture. Whether that went well is for ferror(out) to say. */
static void draw_picture(FILE *out, const picture *p)
{
    const double first = 118, second = 346;
    const double top = heat_top(p);

    svg_begin(out);
    svg_text(out, PICTURE_LEFT, 36, "title", p->title);
    svg_text(out, PICTURE_LEFT, 58, "left", p->subtitle);
    svg_text(out, PICTURE_LEFT, 75, "left",
             "exact: y = x * w / sqrt(mean(x*x) + eps) in double, of the same bf16 x and w. A line "
             "of a map is a token.");
    draw_heat(out, p, &p->series[0], first, top);
    draw_heat(out, p, &p->series[1], second, top);
    svg_text(out, PICTURE_LEFT + HEAT_WIDTH / 2, second + HEAT_HEIGHT + 34, "middle", "column");
    draw_heat_legend(out, first, second + HEAT_HEIGHT - first, top);
    draw_codes(out, p, PICTURE_LEFT, 470);
    draw_scales(out, &p->series[0], 618, 290, "NVFP4 scales", "blocks of 16 with each e4m3 byte");
    draw_scales(out, &p->series[1], 972, 180, "MXFP4 scales", "blocks of 32 with each e8m0 byte");
    fputs("</svg>\n", out);
}

#endif /* FP4_EXAMPLES_DEMO_PICTURE_H */
