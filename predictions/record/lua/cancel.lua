-- Cancel a prediction that has not ended. ARGV: id, webhook template. Returns 1 if it was cancelled by this call.
local status = redis.call('HGET', 'musicgen:prediction:' .. ARGV[1], 'status')
if not status or TERMINAL[status] then return 0 end
finish(ARGV[1], 'canceled', {}, ARGV[2])
return 1
