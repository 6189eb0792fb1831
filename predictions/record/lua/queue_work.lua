-- What a queue has to do, and how fast its workers were. ARGV: queue, how many of those that wait.
-- Returns {live workers, model card or false, flat pace, running, waiting}: of each that runs or waits
-- {id, seconds of music, 1 for diffusion, progress or '', time of its start or '0'}, the next one first.
local queue, limit = ARGV[1], tonumber(ARGV[2])
local card = redis.call('HGET', 'musicgen:cards', queue)
local pace = card and redis.call('HGETALL', 'musicgen:pace:' .. queue .. ':' .. cjson.decode(card).version) or {}
local workers = redis.call('ZCOUNT', 'musicgen:workers:' .. queue, '(' .. clock(), '+inf')
if workers == 0 or #pace == 0 then return { workers, card, pace, {}, {} } end

local function work(ids)
  local answer = {}
  for _, id in ipairs(ids) do
    local record = redis.call('HMGET', 'musicgen:prediction:' .. id, 'input', 'progress', 'started_at')
    if record[1] then
      local input = cjson.decode(record[1])
      local diffusion = input.multi_band_diffusion == true and 1 or 0
      answer[#answer + 1] = { id, input.duration or 0, diffusion, record[2] or '', record[3] or '0' }
    end
  end
  return answer
end

return {
  workers, card, pace,
  work(redis.call('SMEMBERS', 'musicgen:running:' .. queue)),
  work(redis.call('ZRANGE', 'musicgen:queued:' .. queue, 0, limit - 1)),
}
