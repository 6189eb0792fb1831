-- Cancel a prediction. Given: id. Returns 1, or 0 where it has ended already or is gone.
local status = redis.call('HGET', KEY.prediction(given.id), 'status')
if not status or TERMINAL[status] then return 0 end
end_prediction(given.id, STATUS.canceled, CAUSE.client, {})
return 1
