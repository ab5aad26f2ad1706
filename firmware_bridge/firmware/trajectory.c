/* The trajectory buffer: points in device time, replaced from a time on, joined by cubic Hermite curves. */
#include "parts.h"

#if FB_TRAJECTORY_POINTS > 0

#define MOST_THAT_FIT ((FB_MAX_PAYLOAD - FB_SIZE_TRAJ_PUSH) / FB_SIZE_POINT)
#define MOST_POINTS (MOST_THAT_FIT < FB_MAX_POINTS ? MOST_THAT_FIT : FB_MAX_POINTS)

static bool later(uint32_t a_us, uint32_t b_us)
{
    return (int32_t)(a_us - b_us) > 0;
}

/* -- following --------------------------------------------------------------------------------------------------- */

/* Where the motion from a to b is at a time between them. Positions and slopes are in 1/256 mrad, the way through the
 * segment in 1/65536. With D = p1 - p0 and slopes m over the segment, p(u) = p0 + m0 u + (3D - 2m0 - m1) u^2 +
 * (m0 + m1 - 2D) u^3. */
static fb_aim between(const fbm_point *a, const fbm_point *b, int i, uint32_t at_us)
{
    uint32_t whole = b->t_us - a->t_us, part = at_us - a->t_us;
    int32_t duration_us = (int32_t)whole;
    while (whole > UINT16_MAX) {
        whole >>= 1;
        part >>= 1;
    }
    int64_t u = (part << 16) / whole;
    fb_aim aim = {.place = 0};
    if (fb_axis_mode[i] == FB_MODE_VELOCITY) {
        aim.speed = a->velocity[i] + (int32_t)(((int64_t)b->velocity[i] - a->velocity[i]) * u >> 16);
        return aim;
    }
    int64_t way = ((int64_t)b->position[i] - a->position[i]) * 256;
    int64_t m0 = (int64_t)a->velocity[i] * duration_us * 256 / 1000000;
    int64_t m1 = (int64_t)b->velocity[i] * duration_us * 256 / 1000000;
    int64_t a3 = m0 + m1 - 2 * way, a2 = 3 * way - 2 * m0 - m1;
    int64_t moved = ((((a3 * u >> 16) + a2) * u >> 16) + m0) * u >> 16;
    int64_t slope = (((3 * a3 * u >> 16) + 2 * a2) * u >> 16) + m0;
    aim.place = ((int64_t)a->position[i] * 256 + moved) * 15625 >> 2; /* 1000000 / 256 */
    int32_t limit = (int32_t)1 << 21; /* between two steep points; the real limit comes later */
    int64_t speed = slope * 15625 / (4 * (int64_t)duration_us);
    aim.speed = speed > limit ? limit : speed < -limit ? -limit : (int32_t)speed;
    return aim;
}

fb_aim fb_trajectory_aim(const fb_core *c, int i)
{
    if (c->queued > 0) return between(&c->from, &c->queue[0], i, c->now_us);
    fb_aim aim = {.place = (int64_t)c->from.position[i] * 1000000, .speed = c->from.velocity[i]};
    if (aim.speed != 0) aim.place += (int64_t)aim.speed * (uint32_t)(c->now_us - c->from.t_us);
    return aim;
}

void fb_follow_trajectory(fb_core *c)
{
    while (c->queued > 0 && fb_passed(c->now_us, c->queue[0].t_us)) {
        c->from = c->queue[0];
        c->queued--;
        for (uint8_t k = 0; k < c->queued; k++) c->queue[k] = c->queue[k + 1];
    }
    if (c->queued > 0) return;
    bool at_rest = true;
    for (int i = 0; i < FB_AXES; i++) at_rest = at_rest && c->from.velocity[i] == 0;
    uint32_t patience_us = (uint32_t)fb_device_parameter(c, FB_PARAMETER_UNDERRUN_MS) * 1000u;
    if (at_rest || c->now_us - c->from.t_us < patience_us) return;
    c->stats.underruns++;
    fb_ramp_down(c, FB_STOP_CAUSE_UNDERRUN);
}

/* -- pushing ----------------------------------------------------------------------------------------------------- */

static uint8_t read_points(const fb_core *c, const fb_frame *frame, fbm_point *points, uint8_t *count)
{
    uint8_t size = (uint8_t)(frame->length - FB_SIZE_TRAJ_PUSH);
    *count = size / FB_SIZE_POINT;
    if (frame->length <= FB_SIZE_TRAJ_PUSH || size % FB_SIZE_POINT != 0 || *count > FB_MAX_POINTS)
        return FB_CODE_BAD_PAYLOAD;
    for (uint8_t k = 0; k < *count; k++) {
        fbm_point_unpack(&points[k], frame->payload + FB_SIZE_TRAJ_PUSH + k * FB_SIZE_POINT);
        if (k > 0 && !later(points[k].t_us, points[k - 1].t_us)) return FB_CODE_BAD_PAYLOAD;
        if (later(points[k].t_us, c->now_us + FB_HORIZON_US)) return FB_CODE_TOO_EARLY;
    }
    return FB_CODE_OK;
}

static uint8_t limit_point(const fb_core *c, fbm_point *point)
{
    uint8_t clamped = 0;
    for (int i = 0; i < FB_AXES; i++) {
        const fb_limits *limits = &c->limits[i];
        int32_t fastest = (int32_t)limits->max_speed;
        int32_t velocity = fb_clamp(point->velocity[i], -fastest, fastest);
        int32_t position = fb_clamp(point->position[i], limits->min_position, limits->max_position);
        if (fb_axis_mode[i] == FB_MODE_VELOCITY) position = point->position[i] = 0;
        if (velocity != point->velocity[i] || position != point->position[i]) clamped |= (uint8_t)(1 << i);
        point->velocity[i] = velocity;
        point->position[i] = position;
    }
    return clamped;
}

/* A point on the present motion, so that what comes before it stays as it is. */
static fbm_point point_at(const fb_core *c, const fbm_point *a, const fbm_point *b, uint32_t at_us)
{
    fbm_point point = {.t_us = at_us};
    for (int i = 0; i < FB_AXES; i++) {
        fb_aim aim = between(a, b, i, at_us);
        point.position[i] = (int32_t)(aim.place / 1000000);
        point.velocity[i] = aim.speed;
    }
    limit_point(c, &point);
    return point;
}

static void begin_here(fb_core *c)
{
    c->from.t_us = c->now_us;
    for (int i = 0; i < FB_AXES; i++) {
        c->from.position[i] = fb_axis_mode[i] == FB_MODE_VELOCITY ? 0 : c->output[i];
        c->from.velocity[i] = c->speed[i];
    }
}

uint8_t fb_on_traj_push(fb_core *c, const fb_frame *frame)
{
    fbm_traj_push m;
    fbm_point points[MOST_POINTS];
    uint8_t count, kept = 0, first = 0, clamped = 0;
    if (fb_latched(c)) return FB_CODE_LATCHED;
    if (c->state != FB_STATE_ACTIVE) return FB_CODE_BAD_STATE;
    uint8_t code = read_points(c, frame, points, &count);
    if (code != FB_CODE_OK) return fb_refuse_command(c, code);

    fbm_traj_push_unpack(&m, frame->payload);
    uint32_t committed_us = c->now_us + FB_COMMIT_US;
    uint32_t cut_us = later(m.replace_from_us, committed_us) ? m.replace_from_us : committed_us;
    while (kept < c->queued && later(cut_us, c->queue[kept].t_us)) kept++;
    bool cuts = kept < c->queued;
    uint32_t after_us = committed_us;
    if (cuts) after_us = cut_us;
    else if (kept > 0 && later(c->queue[kept - 1].t_us, after_us)) after_us = c->queue[kept - 1].t_us;
    while (first < count && !later(points[first].t_us, after_us)) first++;
    if (first == count) {
        c->stats.late += count;
        return FB_CODE_LATE;
    }
    if (kept + cuts + (count - first) > FB_TRAJECTORY_POINTS) {
        c->stats.rejects++;
        return FB_CODE_FULL;
    }

    if (cuts) {
        c->queue[kept] = point_at(c, kept > 0 ? &c->queue[kept - 1] : &c->from, &c->queue[kept], cut_us);
        kept++;
    } else if (kept == 0) {
        begin_here(c);
    }
    for (uint8_t k = first; k < count; k++) {
        clamped |= limit_point(c, &points[k]);
        c->queue[kept++] = points[k];
    }
    c->queued = kept;
    c->moving = true;
    c->stats.late += first;
    c->stats.points += (uint32_t)(count - first);
    for (int i = 0; i < FB_AXES; i++) c->commanded[i] = false;
    fb_accept_command(c, frame, clamped);
    return FB_CODE_OK;
}

#endif
