"""What stands before the routes: limits on connections, bodies and origins, so that no request can hurt the others."""
