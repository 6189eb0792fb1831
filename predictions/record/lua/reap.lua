-- Bring back what nobody works on. `error` tells a client why its prediction failed, with the placeholder @ATTEMPTS@.
-- Returns {requeued after a lost lease, failed for good, re-enqueued after a lost message}.
local limit, time = given.limit, clock()
local requeued, failed, hinted = 0, 0, 0

for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEY.leases, '-inf', time, 'LIMIT', 0, limit)) do
  local key = KEY.prediction(id)
  local attempt = tonumber(redis.call('HGET', key, 'attempt') or 0)
  drop_lease(id)
  if attempt >= given.max_attempts then
    local text = string.gsub(given.error, '@ATTEMPTS@', attempt)
    finish(id, STATUS.failed, { { 'error', text } })
    failed = failed + 1
  elseif attempt > 0 then
    redis.call('HSET', key, 'status', STATUS.starting)
    redis.call('HDEL', key, 'progress')
    emit(id, EVENT.status, STATUS.starting)
    enqueue(id, 'RPUSH')
    requeued = requeued + 1
  end
end

-- A queue at a time: what waits for a model that nobody serves hides nothing of the others.
local untouched_since = time - given.requeue_after_seconds
for _, queue in ipairs(redis.call('SMEMBERS', KEY.queues)) do
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEY.queued(queue), '-inf', untouched_since, 'LIMIT', 0, limit)) do
    -- Still in the list: it only waits its turn. A duplicate message would do no harm, but they would pile up.
    local enqueued_at = tonumber(redis.call('HGET', KEY.prediction(id), 'enqueued_at'))
    if enqueued_at < untouched_since and not redis.call('LPOS', queue, generation_message(id)) then
      enqueue(id, 'RPUSH')
      hinted = hinted + 1
    end
  end
end
return { requeued, failed, hinted }
