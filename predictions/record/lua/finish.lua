-- End a prediction, by the worker that holds it. Given: id, attempt, status, fields (a flat list).
-- Returns 1, or 0 where the lease is lost.
if not holds_lease(given.id, given.attempt) then return 0 end
end_prediction(given.id, given.status, given.fields)
return 1
