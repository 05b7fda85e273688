NAME        
ROWS
 N  Obj     
 E  r0      
 E  r1      
 L  r2      
COLUMNS
    MARK0000  'MARKER'                 'INTORG'
    c0        Obj       1
    c0        r2        -0.47141717700151942
    c1        Obj       1
    c2        Obj       2
    c3        Obj       1
    c4        r0        1
    c5        r0        1
    c6        r1        1
    c6        r2        1
    c7        r1        1
    c7        r2        0.94425560835909383
    MARK0001  'MARKER'                 'INTEND'
RHS
    RHS_V     r0        1
    RHS_V     r1        1
    RHS_V     r2        0.0014212540125769445
BOUNDS
 UI BOUND     c0        3
 FX BOUND     c1        0
 FX BOUND     c2        0
 FX BOUND     c3        0
 BV BOUND     c4      
 BV BOUND     c5      
 BV BOUND     c6      
 BV BOUND     c7      
ENDATA
