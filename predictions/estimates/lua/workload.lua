-- What a queue has to do, and how fast its workers were. Given: queue, max_waiting (how many of those that wait).
-- Returns {now, live workers, announcement or false, flat throughput, running, waiting}; running and waiting, the next one
-- first, are lists of {id, seconds of music, 1 for diffusion, progress or '', time of its start or '0'}.
local queue = given.queue
local announcement = redis.call('HGET', KEY.cards, queue)
local throughput = {}
if announcement then
  throughput = redis.call('HGETALL', KEY.throughput(queue, cjson.decode(announcement).version))
end
local workers = redis.call('ZCOUNT', KEY.workers(queue), '(' .. clock(), '+inf')
if workers == 0 or #throughput == 0 then return { clock(), workers, announcement, throughput, {}, {} } end

local function work(ids)
  local answer = {}
  for _, id in ipairs(ids) do
    local record = redis.call('HMGET', KEY.prediction(id), 'input', 'progress', 'started_at')
    if record[1] then
      local input = cjson.decode(record[1])
      local diffusion = input.multi_band_diffusion == true and 1 or 0
      answer[#answer + 1] = { id, input.duration or 0, diffusion, record[2] or '', record[3] or '0' }
    end
  end
  return answer
end

return {
  clock(), workers, announcement, throughput,
  work(redis.call('SMEMBERS', KEY.running(queue))),
  work(next_in_turn(queue, given.max_waiting)),
}
