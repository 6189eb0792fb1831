-- Bring back predictions whose worker is gone. Given: max_deaths, limit, error (with %d for the deaths).
-- Returns {how many wait again, how many failed for good}.
for _, queue in ipairs(redis.call('SMEMBERS', KEY.queues)) do adopt(queue, given.limit) end
local requeued, failed = 0, 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEY.leases, '-inf', clock(), 'LIMIT', 0, given.limit)) do
  local key = KEY.prediction(id)
  local record = redis.call('HMGET', key, 'status', 'alone')
  if record[1] ~= STATUS.processing then
    drop_lease(id)
  else
    -- Only a death that no neighbour can have caused is held against it.
    local deaths = redis.call('HINCRBY', key, 'deaths', record[2] and 1 or 0)
    if deaths >= given.max_deaths then
      redis.call('HSET', key, 'error', string.format(given.error, deaths))
      end_prediction(id, STATUS.failed, {})
      failed = failed + 1
    else
      send_back(id, 1)
      requeued = requeued + 1
    end
  end
end
return { requeued, failed }
