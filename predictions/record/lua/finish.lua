-- End a prediction on behalf of the worker that holds it. Returns 1, or 0 where the lease is lost.
if not holds_lease(given.id, given.attempt) then return 0 end
finish(given.id, given.status, given.fields)
return 1
