"""The web boundary: rendering, security headers, CSRF, errors and their status. It knows no noun."""
