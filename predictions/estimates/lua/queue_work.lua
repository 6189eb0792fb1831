-- What a queue has to do, and how fast its workers were; of what waits, the first `limit`.
-- Returns {live workers, model card or false, flat throughput, running, waiting}: of each prediction that runs or waits
-- {id, seconds of music, 1 for diffusion, progress or '', time of its start or '0'}, the next one first.
local queue, limit = given.queue, given.limit
local card = redis.call('HGET', KEY.cards, queue)
local throughput = card and redis.call('HGETALL', KEY.throughput(queue, cjson.decode(card).version)) or {}
local workers = redis.call('ZCOUNT', KEY.workers(queue), '(' .. clock(), '+inf')
if workers == 0 or #throughput == 0 then return { workers, card, throughput, {}, {} } end

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
  workers, card, throughput,
  work(redis.call('SMEMBERS', KEY.running(queue))),
  work(redis.call('ZRANGE', KEY.queued(queue), 0, limit - 1)),
}
