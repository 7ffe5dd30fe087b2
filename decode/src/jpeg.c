/*
 * Decodes one JPEG from memory with libjpeg-turbo. jpeg/libjpeg.rs declares the same struct and functions.
 *
 * libjpeg decodes on after a warning. Some warnings are about a header or about stray bytes: the pixels are all there.
 * Others mean that pixels are missing. `on_message` tells the two apart by what the decoder has read so far, and ends the
 * decode at the first warning of missing pixels.
 *
 * An error leaves libjpeg by longjmp. Each jump starts and ends in a call of this file, so it crosses no frame of Rust.
 */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>
#include <jerror.h>

/* Most rows that one call of libjpeg can return: those of one row of MCUs. */
#define ROWS_MAX 32

#define IS_RESTART(marker) ((marker) >= 0xd0 && (marker) <= 0xd7)

/* `Report` in jpeg/libjpeg.rs. */
struct darkroom_jpeg_report {
  /* Of the stored image, in pixels. */
  uint32_t width, height;
  /* Of the decoded image, in pixels. */
  uint32_t scaled_width, scaled_height;
  uint32_t bits_per_sample;
  /* Bytes of a decoded pixel. 1: gray, 3: RGB, 4: CMYK. */
  uint32_t channels;
  uint8_t has_adobe_marker;
  uint8_t has_bad_header;
  /* Restart markers are there, with wrong numbers. */
  uint8_t has_wrong_restarts;
  uint8_t has_stray_bytes;
  uint8_t misses_end;
  /* Of a DC picture: the quantization step of each channel. 0: not known, the samples mean nothing. */
  uint16_t dc_steps[4];
  /* After an error: all scans of the image are in this many first bytes of the file. 0: not known. */
  size_t whole_bytes;
  /* The error, ended by a NUL. */
  char error[JMSG_LENGTH_MAX];
};
_Static_assert(sizeof(struct darkroom_jpeg_report) == 248, "the size in Rust");

struct darkroom_jpeg {
  struct jpeg_decompress_struct jpeg;
  struct jpeg_error_mgr errors;
  struct jpeg_progress_mgr progress;
  jmp_buf failed;
  struct darkroom_jpeg_report report;
  size_t length;
  int scans_max;
  /* A bit for each component that a scan had. */
  unsigned components_seen;
};

static struct darkroom_jpeg *of(j_common_ptr common) { return common->client_data; }

static void fail(struct darkroom_jpeg *decoder, const char *error) {
  snprintf(decoder->report.error, sizeof decoder->report.error, "%s", error);
  longjmp(decoder->failed, 1);
}

static void on_error(j_common_ptr common) {
  common->err->format_message(common, of(common)->report.error);
  longjmp(of(common)->failed, 1);
}

/* Whether the current scan has rows left. */
static boolean is_in_scan(const struct jpeg_decompress_struct *jpeg) {
  return jpeg->input_iMCU_row < jpeg->total_iMCU_rows;
}

static void on_message(j_common_ptr common, int level) {
  struct darkroom_jpeg *decoder = of(common);
  const struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
  struct darkroom_jpeg_report *report = &decoder->report;
  if (level >= 0) return; /* a trace */
  switch (common->err->msg_code) {
    case JWRN_NOT_SEQUENTIAL: /* the decoder ignores the wrong values */
    case JWRN_JFIF_MAJOR:
    case JWRN_ADOBE_XFORM:
      report->has_bad_header = TRUE;
      return;
    case JWRN_BOGUS_PROGRESSION: {
      /* A scan that comes before the DC scan, or that sends its coefficients anew, loses nothing. A refinement of bits that
       * were never sent does. */
      boolean is_before_dc = jpeg->Ss > 0 && common->err->msg_parm.i[1] == 0;
      if (!is_before_dc && jpeg->Ah != 0) break;
      report->has_bad_header = TRUE;
      return;
    }
    case JWRN_EXTRANEOUS_DATA:
      /* Within a scan the decoder has lost its place: encoders put no bytes in front of a restart marker. */
      if (is_in_scan(jpeg)) break;
      report->has_stray_bytes = TRUE;
      return;
    case JWRN_JPEG_EOF:
      report->misses_end = TRUE;
      /* The Huffman decoder warns when it needs a bit after the end. The arithmetic decoder goes on with zeros, which also
       * may be left out at the end of a scan. */
      if (is_in_scan(jpeg) && jpeg->arith_code) break;
      return;
    default: /* JWRN_HIT_MARKER, JWRN_HUFF_BAD_CODE, JWRN_ARITH_BAD_CODE */
      break;
  }
  on_error(common);
}

/* Called where a restart marker has to be and another marker is. A restart marker with a wrong number is taken as the right
 * one. If it belongs to a later part of the scan, the scan runs out of markers at its end, and decoding fails. */
static boolean on_wrong_restart(j_decompress_ptr jpeg, int expected) {
  int marker = jpeg->unread_marker;
  if (!IS_RESTART(marker)) ERREXIT2(jpeg, JWRN_MUST_RESYNC, marker, expected);
  jpeg->unread_marker = 0;
  of((j_common_ptr)jpeg)->report.has_wrong_restarts = TRUE;
  return TRUE;
}

/* Whether the scans so far have every component, and all bits of all coefficients if `is_exact`. */
static boolean has_all_scans(const struct darkroom_jpeg *decoder, boolean is_exact) {
  const struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
  for (int component = 0; component < jpeg->num_components; component++) {
    if (!(decoder->components_seen >> component & 1)) return FALSE;
    if (!jpeg->progressive_mode) continue;
    const int *missing_bits = jpeg->coef_bits[component]; /* -1: all */
    if (missing_bits[0] < 0) return FALSE;
    for (int i = 0; is_exact && i < DCTSIZE2; i++)
      if (missing_bits[i] != 0) return FALSE;
  }
  return TRUE;
}

/* Called before each row of MCUs and, if there are several scans, also between scans. */
static void on_progress(j_common_ptr common) {
  struct darkroom_jpeg *decoder = of(common);
  const struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
  if (jpeg->input_scan_number > decoder->scans_max) fail(decoder, "too many scans");
  if (is_in_scan(jpeg)) {
    for (int i = 0; i < jpeg->comps_in_scan; i++)
      decoder->components_seen |= 1U << jpeg->cur_comp_info[i]->component_index;
  } else if (!decoder->report.misses_end && has_all_scans(decoder, TRUE)) {
    size_t marker_bytes = jpeg->unread_marker ? 2 : 0;
    decoder->report.whole_bytes = decoder->length - jpeg->src->bytes_in_buffer - marker_bytes;
  }
}

/* Turns the decode into one of the DC picture: for each block 128 and an eighth of its DC coefficient, not dequantized. */
static void decode_dc_only(struct darkroom_jpeg *decoder) {
  struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
  jpeg->out_color_space = jpeg->jpeg_color_space;
  jpeg->do_fancy_upsampling = FALSE;
  if (jpeg_has_multiple_scans(jpeg)) return; /* more tables may follow */
  for (int i = 0; i < jpeg->num_components && i < 4; i++) {
    int table = jpeg->comp_info[i].quant_tbl_no;
    if (table < NUM_QUANT_TBLS && jpeg->quant_tbl_ptrs[table] != NULL)
      decoder->report.dc_steps[i] = jpeg->quant_tbl_ptrs[table]->quantval[0];
  }
  for (int table = 0; table < NUM_QUANT_TBLS; table++)
    for (int i = 0; jpeg->quant_tbl_ptrs[table] != NULL && i < DCTSIZE2; i++)
      jpeg->quant_tbl_ptrs[table]->quantval[i] = i == 0;
}

static void read_header(struct darkroom_jpeg *decoder, const uint8_t *bytes, uint32_t eighths) {
  struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
  struct darkroom_jpeg_report *report = &decoder->report;
  jpeg_create_decompress(jpeg);
  jpeg->progress = &decoder->progress;
  jpeg_mem_src(jpeg, bytes, decoder->length);
  jpeg->src->resync_to_restart = on_wrong_restart;
  jpeg_read_header(jpeg, TRUE);
  /* libjpeg turns YCbCr into RGB and YCCK into CMYK. It cannot turn lossless gray into RGB. */
  jpeg->out_color_space = jpeg->num_components == 1   ? JCS_GRAYSCALE
                          : jpeg->num_components == 4 ? JCS_CMYK
                                                      : JCS_RGB;
  if (eighths == 0) decode_dc_only(decoder);
  jpeg->scale_num = eighths == 0 ? 1 : eighths;
  jpeg->scale_denom = 8;
  jpeg_calc_output_dimensions(jpeg);
  report->width = jpeg->image_width;
  report->height = jpeg->image_height;
  report->scaled_width = jpeg->output_width;
  report->scaled_height = jpeg->output_height;
  report->bits_per_sample = (uint32_t)jpeg->data_precision;
  report->channels = (uint32_t)jpeg->output_components;
  report->has_adobe_marker = jpeg->saw_Adobe_marker != FALSE;
}

static void read_rows(struct darkroom_jpeg *decoder, uint8_t *pixels, size_t size) {
  struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
  size_t row_bytes = (size_t)jpeg->output_width * decoder->report.channels;
  if (size / row_bytes < jpeg->output_height) fail(decoder, "the memory is too small");
  jpeg_start_decompress(jpeg); /* reads all scans, if there are several */
  if (jpeg_has_multiple_scans(jpeg) && !has_all_scans(decoder, decoder->report.misses_end))
    fail(decoder, "scans are missing");
  while (jpeg->output_scanline < jpeg->output_height) {
    JSAMPROW rows[ROWS_MAX];
    JDIMENSION count = jpeg->output_height - jpeg->output_scanline;
    if (count > ROWS_MAX) count = ROWS_MAX;
    for (JDIMENSION i = 0; i < count; i++)
      rows[i] = pixels + (jpeg->output_scanline + i) * row_bytes;
    jpeg_read_scanlines(jpeg, rows, count);
  }
  jpeg_finish_decompress(jpeg); /* reads up to the end marker */
}

static uint8_t try_to_read_header(struct darkroom_jpeg *decoder, const uint8_t *bytes, uint32_t eighths) {
  if (setjmp(decoder->failed)) return FALSE;
  read_header(decoder, bytes, eighths);
  return TRUE;
}

static uint8_t try_to_read_rows(struct darkroom_jpeg *decoder, uint8_t *pixels, size_t size) {
  if (setjmp(decoder->failed)) {
    if (decoder->jpeg.output_scanline < decoder->jpeg.output_height) return FALSE;
    /* All rows are there. Bytes in front of the end marker look like another marker. */
    decoder->report.has_stray_bytes = TRUE;
    return TRUE;
  }
  read_rows(decoder, pixels, size);
  return TRUE;
}

void darkroom_jpeg_close(struct darkroom_jpeg *decoder) {
  jpeg_destroy_decompress(&decoder->jpeg);
  free(decoder);
}

/* Reads the header of a JPEG that is to be decoded at `eighths` / 8 of its size; at 0 to its DC picture. Keeps a pointer to
 * `bytes` until the close. Returns NULL if the header is broken. */
struct darkroom_jpeg *darkroom_jpeg_open(const uint8_t *bytes, size_t length, uint32_t eighths, uint32_t scans_max,
                                         struct darkroom_jpeg_report *report) {
  struct darkroom_jpeg *decoder = calloc(1, sizeof *decoder);
  if (decoder == NULL) abort(); /* as Rust does */
  decoder->jpeg.err = jpeg_std_error(&decoder->errors);
  decoder->jpeg.client_data = decoder;
  decoder->errors.error_exit = on_error;
  decoder->errors.emit_message = on_message;
  decoder->progress.progress_monitor = on_progress;
  decoder->length = length;
  decoder->scans_max = (int)scans_max;
  uint8_t is_open = try_to_read_header(decoder, bytes, eighths);
  *report = decoder->report;
  if (is_open) return decoder;
  darkroom_jpeg_close(decoder);
  return NULL;
}

/* Decodes all rows to `pixels`, without gaps between rows. To be called once. Returns whether all pixels are there. */
uint8_t darkroom_jpeg_read(struct darkroom_jpeg *decoder, uint8_t *pixels, size_t size,
                           struct darkroom_jpeg_report *report) {
  uint8_t is_whole = try_to_read_rows(decoder, pixels, size);
  *report = decoder->report;
  return is_whole;
}
