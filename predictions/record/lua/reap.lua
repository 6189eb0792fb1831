-- Bring back what nobody works on. ARGV: max_attempts, requeue seconds, generation template, webhook template, limit.
-- Returns {requeued after a lost lease, failed for good, re-enqueued after a lost message}.
local max_attempts, requeue_after, template, webhook_template = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local limit, time = tonumber(ARGV[5]), clock()
local requeued, failed, hinted = 0, 0, 0

for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'musicgen:leases', '-inf', time, 'LIMIT', 0, limit)) do
  local key = 'musicgen:prediction:' .. id
  local attempt = tonumber(redis.call('HGET', key, 'attempt') or 0)
  drop_lease(id)
  if attempt >= max_attempts then
    finish(id, 'failed', { 'error', 'Its worker died ' .. attempt .. ' times; it is not tried again.' }, webhook_template)
    failed = failed + 1
  elseif attempt > 0 then
    redis.call('HSET', key, 'status', 'starting')
    redis.call('HDEL', key, 'progress')
    emit(id, 'status', 'starting')
    enqueue(id, template, 'RPUSH')
    requeued = requeued + 1
  end
end

-- A queue at a time: what waits for a model that nobody serves hides nothing of the others.
for _, queue in ipairs(redis.call('SMEMBERS', 'musicgen:queues')) do
  local waiting = 'musicgen:queued:' .. queue
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', waiting, '-inf', time - requeue_after, 'LIMIT', 0, limit)) do
    -- Still in the list: it only waits its turn. A duplicate message would do no harm, but they would pile up.
    local enqueued_at = tonumber(redis.call('HGET', 'musicgen:prediction:' .. id, 'enqueued_at'))
    if enqueued_at < time - requeue_after and not redis.call('LPOS', queue, generation_message(id, template)) then
      enqueue(id, template, 'RPUSH')
      hinted = hinted + 1
    end
  end
end
return { requeued, failed, hinted }
