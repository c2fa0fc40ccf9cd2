//! The functional core: what is due for one account on one day, and why. No IO, cannot fail.
