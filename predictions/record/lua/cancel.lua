-- Cancel a prediction that has not ended. Returns 1 if this call cancelled it.
local status = redis.call('HGET', KEY.prediction(given.id), 'status')
if not status or TERMINAL[status] then return 0 end
finish(given.id, STATUS.canceled, {})
return 1
